package tunnel

import (
	"context"
	"errors"
	"io"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"culvert/internal/quota"
	"culvert/internal/state"
	"culvert/internal/testnet"
	"culvert/tunnel/mux"
	"culvert/tunnel/policy"

	"github.com/rs/zerolog"
)

// What all streams of a client carry counts for its quota. When that is used up, new streams are
// refused; open ones of all kinds are cut short a tenth later. A restart changes nothing.
func TestQuotaOfOneClient(t *testing.T) {
	const most = 1 << 20
	key, other := newKey(t), newKey(t)
	rules, err := policy.ParseReverseRules([]string{"127.0.0.1"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "quota.json")
	open := func() *quota.Ledger {
		ledger, err := quota.Open(path, func(err error) { t.Error(err) })
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(ledger.Close)
		return ledger
	}
	ledger, log := open(), &lockedBuffer{}
	trust := trustLines(t, key.Public().String()+" quota=1M", other.Public().String())
	s := startShares(t, trust, func(cfg *RemoteConfig) {
		cfg.Reverse, cfg.Ledger, cfg.Log = rules, ledger, zerolog.New(log)
	})
	ctx, target := testnet.Within(t, patience), testnet.ServeTCP(t, serveCarry)
	sessions := s.mustConnect(key, key, other)
	start := func(session *mux.Session, what byte) *mux.Stream {
		stream, err := session.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: target})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { stream.Close() })
		stream.SetDeadline(time.Now().Add(patience))
		stream.Write([]byte{what})
		return stream
	}
	reported := func(session int) state.Limits {
		id := sessions[session].ID()
		for _, s := range s.State().Sessions {
			if s.ID == id {
				return *s.Limits
			}
		}
		return state.Limits{}
	}
	until(t, "the sessions are in the state", func() bool {
		return reported(0).QuotaBytes == most && reported(1).QuotaBytes == most &&
			reported(2).MaxSessions > 0
	})
	if l := reported(0); l.QuotaUsedBytes != 0 {
		t.Errorf("at first %+v", l)
	}
	idle := start(sessions[0], 'u')
	idle.Write(make([]byte, 999))
	until(t, "what was carried is in the state of both sessions", func() bool {
		return reported(0).QuotaUsedBytes == 1000 && reported(1) == reported(0)
	})
	if l := reported(2); l.QuotaBytes+l.QuotaUsedBytes != 0 {
		t.Errorf("without a quota %+v", l)
	}
	flow, err := sessions[0].OpenFlow(ctx, "")
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	counted := func(what string, n int) {
		t.Helper()
		used := ledger.Used(key.Public().String())
		until(t, what, func() bool { return ledger.Used(key.Public().String()) >= used+int64(n) })
	}
	checkDatagrams(t, sessions[0], counted)
	control, err := sessions[1].Open(ctx, mux.Target{Kind: mux.StreamListen,
		Address: "tcp:127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	address := readLine(t, control)
	control.Write([]byte{0})
	client := dialPlain(t, address)
	in, err := sessions[1].Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	reverse, err := in.(*mux.IncomingStream).Confirm()
	if err != nil {
		t.Fatal(err)
	}
	defer reverse.Close()
	echoReverse(t, client, reverse)

	download := start(sessions[1], 'd')
	n, err := io.Copy(io.Discard, download)
	var reset *mux.ResetError
	used := ledger.Used(key.Public().String())
	if !errors.As(err, &reset) || reset.Code != mux.CodeQuota || n < most/2 || n > used ||
		used < most+most/10 || used > 2*most {
		t.Errorf("%d bytes, %d counted: %v", n, used, err)
	}
	if _, err := idle.Read(make([]byte, 1)); !errors.As(err, &reset) || reset.Code != mux.CodeQuota {
		t.Errorf("another open stream: %v", err)
	}
	_, err = reverse.Read(make([]byte, 1))
	if !errors.As(err, &reset) || reset.Code != mux.CodeQuota {
		t.Errorf("a reverse stream: %v", err)
	}
	if _, err := flow.Receive(make([]byte, 1)); err == nil {
		t.Error("a flow is still open")
	}
	isReset(t, address)
	refused := func(session *mux.Session) {
		t.Helper()
		_, err := session.Open(ctx, mux.Target{Kind: mux.StreamTCP, Address: target})
		_, flowErr := session.OpenFlow(ctx, "")
		if openCode(err) != mux.CodeQuota || openCode(flowErr) != mux.CodeQuota {
			t.Errorf("a new stream: %v; a new flow: %v", err, flowErr)
		}
	}
	refused(sessions[0])
	carry(t, "another client", start(sessions[2], 'u'), true, 2*most)
	for _, want := range []string{
		"streams cut short", "stream refused", `"code":23`,
		`"client":"` + key.Public().String() + `","used_bytes":`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, log)
		}
	}

	ledger.Close()
	again := startShares(t, trust, func(cfg *RemoteConfig) { cfg.Ledger = open() })
	session := again.mustConnect(key)[0]
	refused(session)
	err = again.Reload(again.cfg.Identity, trustLines(t, key.Public().String()+" quota=20M"),
		policy.Rights{})
	if err != nil {
		t.Fatal(err)
	}
	carry(t, "a greater quota", start(session, 'u'), true, most)
}

// checkDatagrams checks that datagrams count, forward and reverse, in both directions.
func checkDatagrams(t *testing.T, session *mux.Session, counted func(string, int)) {
	t.Helper()
	ctx := testnet.Within(t, patience)
	sink := testnet.ListenUDP(t, "127.0.0.1:0")
	flow, err := session.OpenFlow(ctx, sink.LocalAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer flow.Close()
	stop := pump(t, func() { flow.Send(make([]byte, 100)) })
	counted("datagrams to a target count", 1000)
	stop()
	_, exit, err := sink.ReadFromUDPAddrPort(make([]byte, 100))
	if err != nil {
		t.Fatal(err)
	}
	stop = pump(t, func() { sink.WriteToUDPAddrPort(make([]byte, 100), exit) })
	counted("datagrams from a target count", 1000)
	stop()

	control, err := session.Open(ctx, mux.Target{Kind: mux.StreamListen,
		Address: "udp:127.0.0.1:0"})
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	address := readLine(t, control)
	control.Write([]byte{0})
	client, err := net.Dial("udp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	stop = pump(t, func() { client.Write(make([]byte, 100)) })
	counted("datagrams to a port of -R count", 1000)
	stop()
	in, err := session.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	reverse, err := in.(*mux.IncomingFlow).Confirm()
	if err != nil {
		t.Fatal(err)
	}
	defer reverse.Close()
	stop = pump(t, func() { reverse.Send(make([]byte, 100)) })
	counted("datagrams from a port of -R count", 1000)
	stop()
}

// pump calls send again and again until stop is called.
func pump(t *testing.T, send func()) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var sending sync.WaitGroup
	sending.Go(func() {
		for ctx.Err() == nil {
			send()
			pause(t, time.Millisecond)
		}
	})
	return func() {
		cancel()
		sending.Wait()
	}
}

// echoReverse checks that a client of a listener and the local have a connection.
func echoReverse(t *testing.T, client io.ReadWriter, local *mux.Stream) {
	t.Helper()
	local.SetDeadline(time.Now().Add(patience))
	client.Write([]byte("x"))
	if _, err := io.ReadFull(local, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// A quota begins again with each day of UTC, for the streams of a client that is here.
func TestQuotaIsDaily(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // at midnight, UTC
		ledger, err := quota.Open("", nil)
		if err != nil {
			t.Fatal(err)
		}
		r := &Remote{ctx: t.Context(), cfg: RemoteConfig{Ledger: ledger}}
		m := newClientMeter(r, "a", policy.Share{Quota: 1000})
		defer m.quota.end()
		for day := range 3 {
			stream := m.lifetime(t.Context())
			m.Reserve(mux.ToPeer, 500)
			m.passes(mux.FromPeer, 499)
			if m.quota.isUsed() {
				t.Errorf("day %d: used up a byte before", day)
			}
			m.Reserve(mux.FromPeer, 1)
			if !m.quota.isUsed() || stream.Err() != nil {
				t.Errorf("day %d: used up: %v; the open stream: %v", day, m.quota.isUsed(), stream.Err())
			}
			m.Reserve(mux.FromPeer, 99)
			if stream.Err() != nil {
				t.Errorf("day %d: cut short a byte before", day)
			}
			m.Reserve(mux.ToPeer, 1)
			if stream.Err() == nil {
				t.Errorf("day %d: not cut short", day)
			}
			time.Sleep(24*time.Hour - time.Nanosecond) // synctest
			if !m.quota.isUsed() {
				t.Errorf("day %d: begins too early", day+1)
			}
			time.Sleep(time.Nanosecond) // synctest
			if m.quota.isUsed() {
				t.Errorf("day %d: begins used up", day+1)
			}
		}
		m.set(policy.Share{})
		m.Reserve(mux.ToPeer, 1<<20)
		if m.quota.isUsed() || m.lifetime(t.Context()).Err() != nil {
			t.Error("a quota that was taken back holds")
		}
	})
}
