// Package rawsock makes system calls on sockets for which the goroutine keeps its processor.
//
// Before a system call Go's runtime makes the processor available to other goroutines, because the
// call may block: after 20 µs, another thread takes it over. To read or write a socket of package
// net never blocks, it only takes long where much is moved: 128 KiB take 30 to 60 µs. Then each
// call costs two switches between threads. The calls here don't tell the runtime, so that nobody
// takes over. They are for sockets that do not block, and for nothing else.
//
// Even short calls, such as those for an option, cost more than they take: whenever the process has
// had nothing to do, the first that the runtime knows of wakes its monitor, which then looks every
// 20 µs for calls that block.
//
// That is so on Linux. On other systems the calls are those of package net.
package rawsock

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// directly is SocketOf where the calls of this package are to be used, else nil.
func directly(conn any) syscall.RawConn {
	if !direct {
		return nil
	}
	return SocketOf(conn)
}

// SocketOf returns how to reach the socket of a connection of package net, which never blocks, and
// nil for anything else.
func SocketOf(conn any) syscall.RawConn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return rawOf(c)
	case *net.UnixConn:
		return rawOf(c)
	}
	return nil
}

// rawOf returns nil for a zero value, which has no socket.
func rawOf(c syscall.Conn) syscall.RawConn {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

// reader reads from a socket. What its callback needs is here so that it isn't allocated each time.
type reader struct {
	conn     net.Conn
	raw      syscall.RawConn
	into     [1][]byte
	n        int
	err      error
	readable func(fd uintptr) bool
}

// NewReader returns what reads from conn, with conn's deadlines and errors. Unlike with conn, only
// one goroutine may read at a time.
func NewReader(conn net.Conn) io.Reader {
	raw := directly(conn)
	if raw == nil {
		return conn
	}
	r := &reader{conn: conn, raw: raw}
	r.readable = r.read
	return r
}

func (r *reader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	r.into[0], r.n, r.err = p, 0, nil
	err := r.raw.Read(r.readable)
	r.into[0] = nil
	switch {
	case err != nil:
		return 0, opError("read", r.conn, err)
	case r.err != nil:
		return 0, opError("read", r.conn, os.NewSyscallError("read", r.err))
	case r.n == 0:
		return 0, io.EOF
	}
	return r.n, nil
}

// read is called when the socket may be readable, and once before. It returns false to be called
// again.
func (r *reader) read(fd uintptr) bool {
	r.n, r.err = Readv(fd, r.into[:])
	return !errors.Is(r.err, syscall.EAGAIN)
}

// Writer writes to a connection, to its socket directly where that is possible. One goroutine may
// write at a time.
type Writer struct {
	conn     io.Writer
	raw      syscall.RawConn // nil where conn is no socket
	left     net.Buffers     // of a vector
	n        int64
	err      error
	writable func(fd uintptr) bool
	one      [1][]byte
}

// NewWriter returns what writes to conn, with conn's deadlines and errors.
func NewWriter(conn io.Writer) *Writer {
	w := &Writer{conn: conn, raw: directly(conn)}
	if w.raw != nil {
		w.writable = w.write
	}
	return w
}

// Write implements io.Writer.
func (w *Writer) Write(p []byte) (int, error) {
	if w.raw == nil {
		return w.conn.Write(p)
	}
	w.one[0] = p
	n, err := w.WriteVector(w.one[:])
	w.one[0] = nil
	return int(n), err
}

// WriteVector writes the buffers in order, with one system call where it can, and returns how many
// bytes were taken: all, or there is an error. It changes the elements of the vector.
func (w *Writer) WriteVector(vector [][]byte) (int64, error) {
	if w.raw == nil {
		return w.pass(vector)
	}
	w.left, w.n, w.err = vector, 0, nil
	w.skip(0)
	if len(w.left) == 0 {
		return 0, nil
	}
	err := w.raw.Write(w.writable)
	w.left = nil
	switch {
	case err != nil:
		return w.n, opError("write", w.conn, err)
	case w.err != nil:
		return w.n, opError("write", w.conn, os.NewSyscallError("write", w.err))
	}
	return w.n, nil
}

// pass writes to what is no socket.
func (w *Writer) pass(vector [][]byte) (int64, error) {
	if len(vector) != 1 {
		w.left = vector
		n, err := w.left.WriteTo(w.conn)
		w.left = nil
		return n, err
	}
	n, err := w.conn.Write(vector[0])
	if err == nil && n < len(vector[0]) {
		err = io.ErrShortWrite
	}
	return int64(n), err
}

// write is called when the socket may be writable, and once before. It returns false to be called
// again.
func (w *Writer) write(fd uintptr) bool {
	for len(w.left) > 0 {
		n, err := Writev(fd, w.left)
		if errors.Is(err, syscall.EAGAIN) {
			return false
		}
		if err != nil {
			w.err = err
			return true
		}
		w.n += int64(n)
		w.skip(n)
	}
	return true
}

// skip drops the first n bytes of what is left to write.
func (w *Writer) skip(n int) {
	for len(w.left) > 0 && n >= len(w.left[0]) {
		n -= len(w.left[0])
		w.left = w.left[1:]
	}
	if n > 0 {
		w.left[0] = w.left[0][n:]
	}
}

// opError returns what conn itself would return for err, which a deadline or the end of conn has
// caused, or the system.
func opError(op string, conn any, err error) error {
	if raw, ok := errors.AsType[*net.OpError](err); ok {
		err = raw.Err
	}
	c := conn.(net.Conn) // as in SocketOf
	return &net.OpError{
		Op: op, Net: c.LocalAddr().Network(), Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: err,
	}
}
