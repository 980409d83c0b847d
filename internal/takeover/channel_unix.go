//go:build unix

package takeover

import (
	"bytes"
	"encoding/binary"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// headSize is that of a message's head: its kind, and the length of what follows.
const headSize = 5

// channel carries messages with descriptors. Several goroutines may send, one may receive.
type channel struct {
	conn    *net.UnixConn
	sending sync.Mutex // held while a message is written
}

// send sends a message with descriptors, which stay open here. A peer that takes nothing in time
// loses the channel.
func (c *channel) send(kind byte, message any, files ...*os.File) error {
	var text bytes.Buffer
	if message != nil {
		if err := gob.NewEncoder(&text).Encode(message); err != nil {
			return err
		}
	}
	whole := binary.BigEndian.AppendUint32([]byte{kind}, uint32(text.Len()))
	whole = append(whole, text.Bytes()...)
	var descriptors []int
	for _, file := range files {
		raw, err := file.SyscallConn() // Fd would make the listener's Accept block
		if err != nil {
			return err
		}
		if err := raw.Control(func(fd uintptr) {
			descriptors = append(descriptors, int(fd))
		}); err != nil {
			return err
		}
	}
	var rights []byte
	if len(descriptors) > 0 {
		rights = syscall.UnixRights(descriptors...)
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	c.conn.SetWriteDeadline(time.Now().Add(writeTimeout))
	n, _, err := c.conn.WriteMsgUnix(whole, rights, nil)
	if err == nil && n < len(whole) {
		_, err = c.conn.Write(whole[n:])
	}
	if n > 0 && err != nil || errors.Is(err, os.ErrDeadlineExceeded) {
		c.conn.Close() // the peer is taken for dead, or couldn't tell where a message begins
	}
	return err
}

// received is a message, with descriptors that the receiver closes.
type received struct {
	kind  byte
	text  []byte
	files []*os.File
}

// receive waits for a message.
func (c *channel) receive() (m received, err error) {
	head := make([]byte, headSize)
	rights := make([]byte, syscall.CmsgSpace(4*(MaxListeners+1)))
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(head, rights)
	if err == nil && n == 0 {
		err = io.EOF
	}
	if err != nil {
		return m, err
	}
	if m.files, err = filesOf(rights[:oobn]); err != nil {
		return m, err
	}
	if flags&syscall.MSG_CTRUNC != 0 {
		m.close()
		return m, errProtocol
	}
	// The rest, which has no descriptors.
	if _, err := io.ReadFull(c.conn, head[n:]); err != nil {
		m.close()
		return m, err
	}
	m.kind = head[0]
	size := binary.BigEndian.Uint32(head[1:])
	if size > maxMessage {
		m.close()
		return m, errProtocol
	}
	m.text = make([]byte, size)
	if _, err := io.ReadFull(c.conn, m.text); err != nil {
		m.close()
		return m, err
	}
	return m, nil
}

func filesOf(rights []byte) (files []*os.File, err error) {
	controls, err := syscall.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for i := range controls {
		descriptors, err := syscall.ParseUnixRights(&controls[i])
		if err != nil {
			continue // of another kind
		}
		for _, fd := range descriptors {
			files = append(files, os.NewFile(uintptr(fd), fmt.Sprint("taken over ", fd)))
		}
	}
	return files, nil
}

// decode decodes what a message holds.
func (m *received) decode(into any) error {
	if err := gob.NewDecoder(bytes.NewReader(m.text)).Decode(into); err != nil {
		return fmt.Errorf("%w: %w", errProtocol, err)
	}
	return nil
}

// close closes the descriptors.
func (m *received) close() {
	for _, file := range m.files {
		file.Close()
	}
}

// expect receives the next message, which has to be of a kind.
func (c *channel) expect(kind byte) (received, error) {
	c.conn.SetReadDeadline(time.Now().Add(stepTimeout))
	defer c.conn.SetReadDeadline(time.Time{})
	m, err := c.receive()
	if err == nil && m.kind != kind {
		m.close()
		err = errProtocol
	}
	return m, err
}
