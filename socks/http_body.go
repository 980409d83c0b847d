package socks

import (
	"bufio"
	"errors"
	"io"
	"sync"
)

// bodyCopy copies a body as it comes. Nothing is held: what has been read is written before
// more is waited for.
type bodyCopy struct {
	dst    io.Writer
	in     *bufio.Reader
	body   *framing
	decode bool   // the chunks are taken out
	head   []byte // goes ahead of the first piece
	large  *[]byte
	quick  bool // the last read has filled its buffer
}

// writeError is an error of what a body is written to, as opposed to what it is read from.
type writeError struct{ err error }

func (e *writeError) Error() string { return e.err.Error() }

// Unwrap returns the writer's error.
func (e *writeError) Unwrap() error { return e.err }

// largeBuffers are those that large bodies are read into.
var largeBuffers = sync.Pool{New: func() any {
	b := make([]byte, largeBuffer)
	return &b
}}

// close gives the buffer back.
func (c *bodyCopy) close() {
	if c.large != nil {
		largeBuffers.Put(c.large)
		c.large = nil
	}
}

// run copies all that is left.
func (c *bodyCopy) run() error {
	defer c.close()
	for len(c.head) > 0 || !c.body.done() {
		if err := c.step(); err != nil {
			return err
		}
	}
	return nil
}

// step copies a piece. The error is a *writeError, or errChunk, or the reader's, which is
// io.ErrUnexpectedEOF when that ends before the body does. What came before it is written.
func (c *bodyCopy) step() error {
	if c.in.Buffered() == 0 && len(c.head) == 0 {
		if c.quick && c.body.plain() >= int64(c.in.Size()) {
			return c.stepLarge()
		}
		c.close()
		if _, err := c.in.Peek(1); err != nil {
			return c.readError(err)
		}
	}
	b, _ := c.in.Peek(c.in.Buffered())
	c.quick = len(b) == c.in.Size()
	n, data, malformed := c.body.advance(b, c.decode)
	if !c.decode {
		data = b[:n]
	}
	if c.body.chunks.lacksCR {
		data = append(b[:n:n], '\r')
		c.body.chunks.lacksCR = false
	}
	err := c.write(data)
	c.in.Discard(n)
	if err == nil {
		err = malformed
	}
	return err
}

// stepLarge copies data that is known to be some, without looking at it.
func (c *bodyCopy) stepLarge() error {
	if c.large == nil {
		c.large = largeBuffers.Get().(*[]byte)
	}
	b := *c.large
	n, err := c.in.Read(b[:min(int64(len(b)), c.body.plain())])
	c.quick = n >= c.in.Size()
	c.body.skip(n)
	if n > 0 {
		return c.write(b[:n]) // an error shows again
	}
	return c.readError(err)
}

// write writes what is ahead of a piece, and the piece.
func (c *bodyCopy) write(data []byte) error {
	if len(c.head) > 0 {
		data = append(c.head, data...)
		c.head = nil
	}
	if len(data) == 0 {
		return nil
	}
	if _, err := c.dst.Write(data); err != nil {
		return &writeError{err}
	}
	return nil
}

// readError is what a failed read means.
func (c *bodyCopy) readError(err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	if c.body.kind == framedByClose {
		c.body.kind = noBody
		return nil
	}
	return io.ErrUnexpectedEOF
}
