//go:build !race

package protocol

import "testing"

// TestSteadyStateAllocations checks that a record allocates nothing once the buffers have grown.
// With the race detector, pools drop some of what they get.
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
		if allocations != 0 {
			t.Errorf("%s: %v allocations a record", tt.name, allocations)
		}
	}
}
