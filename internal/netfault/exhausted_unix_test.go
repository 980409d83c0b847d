//go:build unix

package netfault

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// A lookup without a descriptor for it has not failed because of the name server.
func TestExhaustedLookup(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0") // with which the poller has its descriptors
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var before syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	none := before
	none.Cur = 0
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
		t.Fatal(err)
	}
	_, err = (&net.Resolver{PreferGo: true}).LookupHost(t.Context(), "name.test")
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &before); err != nil {
		t.Fatal(err)
	}
	if _, ok := errors.AsType[*net.DNSError](err); !ok || !Exhausted(err) {
		t.Errorf("%v", err)
	}
	if Exhausted(&net.DNSError{Err: "server misbehaving", Name: "name.test"}) {
		t.Error("a name server that misbehaves is a lack of descriptors")
	}
}
