package tunnel

import (
	"fmt"
	"math"
	"os"
	"strings"
	"testing"

	"culvert/tunnel/mux"
)

// The arithmetic of docs/scale.md, which names where each figure is from.
const (
	scaleUsers   = 100_000
	scaleStreams = 10       // of a user
	scaleSession = 67e3     // bytes of memory
	scaleStream  = 8e3      // bytes of memory of an idle one
	scaleSocket  = 4e3      // bytes of the kernel's memory
	scaleIdle    = 1. / 2e5 // of a processor, for a session without traffic
	scaleTraffic = 1e6 / 8  // bytes a second of a user
	scaleCost    = 1.0e-9   // of a processor, for each byte a second

	// scaleData is what a stream has of --memory for its data: as much as it counts itself.
	scaleData = streamMemory

	// scaleRate is how many handshakes a node begins in a second in the long run.
	scaleRate = DefaultMaxHandshakeRate * (1 - 1./handshakeBurstPart)
)

// scaleRow is how users spread over nodes of which each can have at most a number of them, while
// another one is missing.
func scaleRow(most float64) string {
	nodes := math.Ceil(scaleUsers/most) + 1
	usual := scaleUsers / nodes
	streams := most * scaleStreams
	files := most + streams
	return fmt.Sprintf("| %.0f | %.0f | %.0f | %.0f | %.1f | %.1f | %.1f | %.2f | %.1f | %.0f | "+
		"%.0f |", most, nodes, streams, files, (most*scaleSession+streams*scaleStream)/1e9,
		files*scaleSocket/1e9, streams*(streamMemory+scaleData)/1e9, most*scaleIdle,
		most*scaleTraffic*scaleCost, math.Ceil(usual/(nodes-1)/scaleRate),
		math.Ceil(usual/scaleRate))
}

// TestScaleArithmetic: the numbers in docs/scale.md follow from the figures there.
func TestScaleArithmetic(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/scale.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, most := range []float64{1000, 2000, 5000, 10_000, 20_000} {
		if row := scaleRow(most); !strings.Contains(string(doc), row+"\n") {
			t.Errorf("docs/scale.md lacks the row %s", row)
		}
	}
	for _, sentence := range []string{
		fmt.Sprintf("%.0f handshakes a second for each node", scaleRate),
		fmt.Sprintf("a node can have\n  %.0f of them", scaleRate*mux.DefaultResumeWindow.Seconds()),
	} {
		if !strings.Contains(string(doc), sentence) {
			t.Errorf("docs/scale.md lacks %q", sentence)
		}
	}
}
