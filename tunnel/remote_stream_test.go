package tunnel

import (
	"net"
	"path/filepath"
	"testing"

	"culvert/tunnel/mux"
	"culvert/tunnel/policy"
)

func TestDialTargetUnix(t *testing.T) {
	folder := t.TempDir()
	socket, stale, missing := filepath.Join(
		folder,
		"s",
	), filepath.Join(
		folder,
		"stale",
	), filepath.Join(
		folder,
		"missing",
	)
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	rules := mustParse(t, []string{"unix:" + socket, "unix:" + stale, "unix:" + missing}, nil)
	for _, test := range []struct {
		rules *policy.Rules
		path  string
		want  mux.Code
	}{
		{rules, stale, mux.CodeRefused},
		{rules, missing, mux.CodeNameNotFound},
		{rules, folder + "/other", mux.CodeNotAllowed},
		{nil, socket, mux.CodeNotAllowed},
		{rules, folder + "/x/../s", mux.CodeBadTarget},
		{rules, "s", mux.CodeBadTarget},
		{rules, "", mux.CodeBadTarget},
	} {
		_, err := dialTarget(
			t.Context(),
			test.rules,
			mux.Target{Kind: mux.StreamUnix, Address: test.path},
		)
		if err == nil || dialCode(err) != test.want {
			t.Errorf("%s: %v, want %v", test.path, err, test.want)
		}
	}
	conn, err := dialTarget(t.Context(), rules, mux.Target{Kind: mux.StreamUnix, Address: socket})
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := dialTarget(
		t.Context(), rules, mux.Target{Kind: 99, Address: socket},
	); dialCode(err) != mux.CodeBadTarget {
		t.Errorf("an unknown kind: %v", err)
	}
}
