package tunnel

import (
	"errors"
	"io"
	"testing"
	"time"

	"culvert/internal/bounds"
	"culvert/internal/quota"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/speed"
)

// openControl opens the control stream of a speed test.
func openControl(t *testing.T, session *mux.Session) (*mux.Stream, error) {
	t.Helper()
	stream, err := session.Open(testnet.Within(t, patience),
		mux.Target{Kind: mux.StreamService, Address: speed.Control})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { stream.Close() })
	stream.SetDeadline(time.Now().Add(patience))
	return stream, nil
}

// TestSpeed measures a tunnel, whose bytes are counted as those of streams are.
func TestSpeed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	ledger, err := quota.Open("", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer ledger.Close()
	trust := trustLines(t, key.Public().String()+" quota=10G rate=20M/20M")
	remote := startRemote(t, trust, func(cfg *RemoteConfig) { cfg.Ledger = ledger })
	got, err := Speed(testnet.Within(t, patience), remote.localConfig(t, key), speed.MinWindow, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, transfer := range []speed.Transfer{got.Download, got.Upload} {
		if transfer.Rate <= 0 || transfer.Rate > 25e6 || transfer.Loaded.Median <= 0 {
			t.Errorf("%+v", transfer)
		}
		// Under load the processors may be the limit.
		if limit := transfer.Reason.Limit; transfer.Rate > 18e6 && limit != speed.LimitShare {
			t.Errorf("%+v", transfer)
		}
	}
	least := got.Download.Bytes + got.Upload.Bytes
	if used := ledger.Used(key.Public().String()); used < least {
		t.Errorf("%d bytes count for the quota, at least %d were carried", used, least)
	}
}

// TestSpeedRefused checks which tests a remote refuses, and with what codes.
func TestSpeedRefused(t *testing.T) {
	t.Parallel()
	key, other := newKey(t), newKey(t)
	counts := &bounds.Counts{}
	s := startShares(t, trustKeys(t, key, other), func(cfg *RemoteConfig) { cfg.Bounds = counts })
	sessions := s.mustConnect(key, key, other)
	open := func(session *mux.Session, service string) error {
		stream, err := session.Open(testnet.Within(t, patience),
			mux.Target{Kind: mux.StreamService, Address: service})
		if err == nil {
			stream.Close()
		}
		return err
	}
	for _, service := range []string{"", "speed/", "speed/down", "localhost:80"} {
		if code := openCode(open(sessions[0], service)); code != mux.CodeBadTarget {
			t.Errorf("%q without a test: code %d", service, code)
		}
	}
	first, err := openControl(t, sessions[0])
	if err != nil {
		t.Fatal(err)
	}
	for _, session := range sessions[:2] {
		if code := openCode(open(session, speed.Control)); code != mux.CodeServiceBusy {
			t.Errorf("another test of the client: code %d", code)
		}
	}
	if n := counts.Of(bounds.ClientTests); n != 2 {
		t.Errorf("%d refusals were counted", n)
	}
	if _, err := openControl(t, sessions[2]); err != nil {
		t.Errorf("a test of another client: %v", err)
	}
	if code := openCode(open(sessions[1], speed.Upload)); code != mux.CodeBadTarget {
		t.Errorf("a stream to the test of another session: code %d", code)
	}
	// Data streams end with the test.
	data, err := sessions[0].Open(testnet.Within(t, patience),
		mux.Target{Kind: mux.StreamService, Address: speed.Upload})
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	data.SetDeadline(time.Now().Add(patience))
	first.Close()
	if _, err := io.Copy(io.Discard, data); !errors.As(err, new(*mux.ResetError)) {
		t.Errorf("a stream whose test has ended: %v", err)
	}
	until(t, "there is room again", func() bool {
		_, err := openControl(t, sessions[1])
		return err == nil
	})
}

// TestSpeedCrowd fills a remote with tests.
func TestSpeedCrowd(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	counts := &bounds.Counts{}
	s := startShares(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.Bounds = counts })
	session := s.mustConnect(key)[0]
	for range maxTests {
		if !s.tests.take() {
			t.Fatal("no place is left")
		}
	}
	if _, err := openControl(t, session); openCode(err) != mux.CodeServiceBusy ||
		counts.Of(bounds.Tests) != 1 {
		t.Errorf("one more: %v, counted %d times", err, counts.Of(bounds.Tests))
	}
}

// TestNoSpeed checks the errors for remotes without tests.
func TestNoSpeed(t *testing.T) {
	t.Parallel()
	key := newKey(t)
	remote := startRemote(t, trustKeys(t, key), func(cfg *RemoteConfig) { cfg.NoSpeed = true })
	_, err := Speed(testnet.Within(t, patience), remote.localConfig(t, key), speed.MinWindow, nil)
	if !errors.As(err, new(*SpeedError)) || openCode(err) != mux.CodeServiceOff {
		t.Errorf("switched off: %v", err)
	}
	// A remote that doesn't know services takes them for targets.
	near, far := muxPair(t)
	go func() {
		in, err := far.Accept(testnet.Within(t, patience))
		if err == nil {
			_, err = dialTarget(t.Context(), noRights{}, mux.Target{Kind: 7, Address: speed.Control})
			in.Refuse(dialCode(err), "")
		}
	}()
	_, err = openService(testnet.Within(t, patience), near, speed.Control)
	if !errors.Is(err, ErrNoService) {
		t.Errorf("an earlier version: %v", err)
	}
}
