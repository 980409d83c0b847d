package tunnel

import (
	"sync"
	"testing"

	"culvert/internal/testnet"
	"culvert/internal/testnet/hostile"
	"culvert/tunnel/mux"
)

// A client that opens streams as fast as it can, to a target that refuses them or with a reset that
// follows, leaves others their turn: the streams are begun a few at a time.
func TestOpensLeaveOthersTheirTurn(t *testing.T) {
	closed, free := testnet.RefusingPort(t)
	defer free()
	echo := testnet.EchoServer(t)
	for name, piece := range map[string]func(n uint32) []byte{
		"refused": func(n uint32) []byte { return hostile.Open(2*n+1, mux.StreamTCP, closed.String()) },
		"reset": func(n uint32) []byte {
			return append(hostile.Open(2*n+1, mux.StreamTCP, echo), hostile.Reset(2*n+1)...)
		},
	} {
		t.Run(name, func(t *testing.T) {
			key, other := newKey(t), newKey(t)
			remote := startRemote(t, trustKeys(t, key, other), nil)
			b := startBystander(t, remote, other)
			h := startHostile(t, remote, key, hostile.Config{Acks: true})
			var flooding sync.WaitGroup
			flooding.Go(func() { h.Flood(1<<30, piece) })
			before := b.rounds.Load()
			until(t, "many rounds of another client", func() bool {
				return b.rounds.Load() >= before+500
			})
			h.Close()
			testnet.Await(t, patience, flooding.Wait)
		})
	}
}
