//go:build !unix

package takeover

import (
	"context"
	"net"
	"os"
)

// Giver is the old process.
type Giver struct{}

// Give returns ErrUnsupported.
func Give(context.Context, *net.UnixConn, Old) error { return ErrUnsupported }

// Claim returns false.
func (*Giver) Claim(uint64) bool { return false }

// Route does nothing.
func (*Giver) Route(string, bool) {}

// Taker is the new process. There is none.
type Taker struct {
	Offer Offer
	Files []*os.File
}

// Take returns ErrUnsupported.
func Take(*net.UnixConn) (*Taker, error) { return nil, ErrUnsupported }

// Begin returns ErrUnsupported.
func (*Taker) Begin() (State, error) { return State{}, ErrUnsupported }

// Follow does nothing.
func (*Taker) Follow(func(uint64) bool) {}

// Serving returns ErrUnsupported.
func (*Taker) Serving() error { return ErrUnsupported }

// Done returns nil.
func (*Taker) Done() <-chan struct{} { return nil }

// Owns returns false.
func (*Taker) Owns(string) bool { return false }

// Routes returns nil.
func (*Taker) Routes(func(string, bool)) []string { return nil }

// Pass returns ErrUnsupported.
func (*Taker) Pass(net.Conn, Conn) error { return ErrUnsupported }

// Close does nothing.
func (*Taker) Close() {}
