package tunnel

import (
	"errors"
	"io"
	"testing"
	"time"

	"culvert/internal/testnet"
	"culvert/tunnel/policy"
)

func TestReloadEndsSessionsOfRemovedKeys(t *testing.T) {
	removed, kept := newKey(t), newKey(t)
	remote := startRemote(t, trustKeys(t, removed, kept), nil)
	_, removedEnded := startLocal(t, remote.localConfig(t, removed))
	local, _ := startLocal(t, remote.localConfig(t, kept))
	conn := dial(t, local, testnet.EchoServer(t))
	until(t, "both sessions are counted", func() bool {
		remote.mu.Lock()
		defer remote.mu.Unlock()
		return len(remote.sessions) == 2
	})
	if err := remote.Reload(
		RemoteIdentity{Key: remote.key}, trustKeys(t, kept), policy.Rights{},
	); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-removedEnded:
		if !IsAdmissionError(err) {
			t.Fatalf("the removed client: %v", err)
		}
	case <-testnet.Within(t, 10*time.Second).Done():
		t.Fatal("the removed client keeps its session")
	}
	conn.Write([]byte("x"))
	if _, err := io.ReadFull(conn, make([]byte, 1)); err != nil {
		t.Fatalf("the other client: %v", err)
	}
	if err := remote.Reload(
		RemoteIdentity{Key: remote.key}, RemoteTrust{}, policy.Rights{},
	); !errors.Is(err, ErrNobodyAdmitted) {
		t.Fatalf("a trust that admits nobody: %v", err)
	}
}

// The rules of the remote and of a key's line hold for each stream, and reloaded ones also for
// existing sessions.
func TestRulesOfRemote(t *testing.T) {
	target, other := testnet.EchoServer(t), testnet.EchoServer(t)
	free, bound := newKey(t), newKey(t)
	trust := trustLines(t, free.Public().String(), bound.Public().String()+" allow="+target)
	remote := startRemote(t, trust, nil)
	unrestricted, _ := startLocal(t, remote.localConfig(t, free))
	restricted, _ := startLocal(t, remote.localConfig(t, bound))

	reached(t, unrestricted, target, other)
	reached(t, restricted, target)
	refused(t, restricted, other, "localhost:1", "169.254.169.254:80")
	refused(t, unrestricted, "169.254.169.254:80", "metadata.google.internal:80", "0.0.0.0:80")

	kept := dial(t, unrestricted, other)
	kept.Write([]byte("x"))
	if _, err := io.ReadFull(kept, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	rules := mustParse(t, nil, []string{other})
	if err := remote.Reload(
		RemoteIdentity{Key: remote.key}, trust, policy.Rights{Rules: rules},
	); err != nil {
		t.Fatal(err)
	}
	refused(t, unrestricted, other)
	reached(t, unrestricted, target)
	kept.Write([]byte("x"))
	if _, err := io.ReadFull(kept, make([]byte, 1)); err != nil {
		t.Errorf("a stream from before: %v", err)
	}

	swapped := trustLines(t, free.Public().String()+" allow="+other, bound.Public().String())
	if err := remote.Reload(RemoteIdentity{Key: remote.key}, swapped, policy.Rights{}); err != nil {
		t.Fatal(err)
	}
	reached(t, restricted, target, other)
	reached(t, unrestricted, other)
	refused(t, unrestricted, target)

	var line *policy.KeyLineError
	bad := trustLines(t, "", "# a comment", free.Public().String()+" allow=10.0.0.1/8")
	if err := remote.Reload(
		RemoteIdentity{Key: remote.key}, bad, policy.Rights{},
	); !errors.As(err, &line) || line.Line != 3 || line.Option != "allow" {
		t.Errorf("a bad rule: %v", err)
	}
	refused(t, unrestricted, target)
	if _, err := NewRemote(
		RemoteConfig{Identity: RemoteIdentity{Key: newKey(t)}, Trust: bad},
	); !errors.As(err, &line) {
		t.Errorf("a new remote with a bad rule: %v", err)
	}
}
