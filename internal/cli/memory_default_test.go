package cli

import (
	"context"
	"crypto/rand"
	"path/filepath"
	"sync"
	"testing"

	"culvert/certs"
	"culvert/tunnel"

	"github.com/rs/zerolog"
)

// TestMachineMemory: commands without --memory have the budget that is its default: a remote and a
// local of a demonstration, and a check.
func TestMachineMemory(t *testing.T) {
	want, err := (&memoryOption{size: defaultMemory}).load(zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	if got := machineMemory(); got != want || got < leastMemory {
		t.Errorf("%d bytes, want %d", got, want)
	}
	var running sync.WaitGroup
	defer running.Wait()
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	demo, err := startRemote(ctx, &running, zerolog.Nop())
	if err != nil {
		t.Fatal(err)
	}
	key, err := certs.GenerateKeyPair(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "identity.json")
	if err := key.WriteFile(file); err != nil {
		t.Fatal(err)
	}
	o := connectOptions{remotes: []remoteURL{{address: demo.address}},
		identity: identityOptions{key: file},
		trust:    trustOptions{remoteKey: demo.trust.pins[0].String()}}
	o.session.congestion.choice, o.session.connectTimeout = "auto", tunnel.DefaultConnectTimeout
	check, err := o.load()
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]*connection{"demo": demo, "check": check} {
		if c.config.Memory != want {
			t.Errorf("%s: %d bytes, want %d", name, c.config.Memory, want)
		}
	}
}
