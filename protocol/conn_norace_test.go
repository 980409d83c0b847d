//go:build !race

package protocol

import "testing"

// TestSteadyStateAllocations counts what a record allocates once the buffers have grown: one small object of gorilla's
// for each message that is read. With the race detector the pools drop a part of what they get.
func TestSteadyStateAllocations(t *testing.T) {
	client, server := connectTCP(t, newParties(t, Version1, false))
	payload, buf := pattern(32<<10), make([]byte, 0, 32<<10)
	for _, tt := range []struct {
		name     string
		from, to *Conn
	}{{"client to server", client, server}, {"server to client", server, client}} {
		allocations := testing.AllocsPerRun(200, func() {
			if err := tt.from.WriteRecords(payload); err != nil {
				t.Fatal(err)
			}
			if _, err := tt.to.ReadRecord(buf); err != nil {
				t.Fatal(err)
			}
		})
		if allocations > 1 {
			t.Errorf("%s: %v allocations a record, want at most 1", tt.name, allocations)
		}
	}
}
