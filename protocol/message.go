package protocol

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"

	"culvert/certs"
)

// The versions of the handshake.
const (
	Version1 = 1 // keys only
	Version2 = 2 // the server shows a certificate, and may require one
)

// The opcodes of the messages.
const (
	opcClientHello = 0
	opcServerHello = 1
	opcClientReady = 2
)

// clientHello is the first message; all of it travels in clear.
type clientHello struct {
	version   int
	publicKey certs.PublicKey
	nonce     [nonceSize]byte
	offer     *offer // of the extension; nil when there is none
}

// serverHello answers it. The box is sealed from server to client with the nonce of the
// clientHello.
type serverHello struct {
	version   int
	publicKey certs.PublicKey
	box       []byte
}

// clientReady ends the handshake. The box is sealed from client to server with the nonce inside the
// serverHello's box.
type clientReady struct {
	version int
	box     []byte
}

func (m clientHello) marshal() []byte {
	b := appendHead(nil, m.version, opcClientHello)
	b = certs.AppendByteArray(append(b, `,"client_public_key":`...), m.publicKey[:])
	b = certs.AppendByteArray(append(b, `,"nonce":`...), m.nonce[:])
	if m.offer != nil {
		b = m.offer.append(append(b, `,"ext":`...))
	}
	return append(b, '}')
}

func (m serverHello) marshal() []byte {
	b := appendHead(make([]byte, 0, maxClearPart+jsonByte*len(m.box)), m.version, opcServerHello)
	b = certs.AppendByteArray(append(b, `,"server_public_key":`...), m.publicKey[:])
	b = certs.AppendByteArray(append(b, `,"s_blackbox_a":`...), m.box)
	return append(b, '}')
}

func (m clientReady) marshal() []byte {
	b := appendHead(make([]byte, 0, maxClearPart+jsonByte*len(m.box)), m.version, opcClientReady)
	b = certs.AppendByteArray(append(b, `,"s_blackbox_a":`...), m.box)
	return append(b, '}')
}

func appendHead(b []byte, version, opc int) []byte {
	b = strconv.AppendInt(append(b, `{"version":`...), int64(version), 10)
	return strconv.AppendInt(append(b, `,"opc":`...), int64(opc), 10)
}

func parseClientHello(b []byte) (m clientHello, err error) {
	if len(b) > maxClientHello {
		return m, fmt.Errorf("ClientHello: %w", ErrTooLarge)
	}
	o, err := parseObject(b, "version", "opc", "client_public_key", "nonce", "ext")
	if err != nil {
		return m, fmt.Errorf("ClientHello: %w", err)
	}
	if m.version, err = o.head(opcClientHello); err != nil {
		return m, fmt.Errorf("ClientHello: %w", err)
	}
	if err = o.fixedBytes("client_public_key", m.publicKey[:]); err != nil {
		return m, fmt.Errorf("ClientHello: %w", err)
	}
	if err = o.fixedBytes("nonce", m.nonce[:]); err != nil {
		return m, fmt.Errorf("ClientHello: %w", err)
	}
	if m.offer, err = parseOffer(o["ext"]); err != nil {
		return m, fmt.Errorf("ClientHello: %w", err)
	}
	return m, nil
}

// parseServerHello expects the version that the client asked for.
func parseServerHello(b []byte, version int) (m serverHello, err error) {
	o, err := parseSealed(b, version, opcServerHello, "server_public_key")
	if err != nil {
		return m, fmt.Errorf("ServerHello: %w", err)
	}
	m.version = version
	if err = o.fixedBytes("server_public_key", m.publicKey[:]); err != nil {
		return m, fmt.Errorf("ServerHello: %w", err)
	}
	if m.box, err = o.bytes("s_blackbox_a", maxBox(version)); err != nil {
		return m, fmt.Errorf("ServerHello: %w", err)
	}
	return m, nil
}

// parseClientReady expects the version of the ClientHello.
func parseClientReady(b []byte, version int) (m clientReady, err error) {
	o, err := parseSealed(b, version, opcClientReady)
	if err != nil {
		return m, fmt.Errorf("ClientReady: %w", err)
	}
	m.version = version
	if m.box, err = o.bytes("s_blackbox_a", maxBox(version)); err != nil {
		return m, fmt.Errorf("ClientReady: %w", err)
	}
	return m, nil
}

// parseSealed parses what ServerHello and ClientReady have in common.
func parseSealed(b []byte, version, opc int, more ...string) (object, error) {
	if len(b) > maxSealedMessage(version) {
		return nil, ErrTooLarge
	}
	o, err := parseObject(b, append(more, "version", "opc", "s_blackbox_a")...)
	if err != nil {
		return nil, err
	}
	got, err := o.head(opc)
	if err != nil {
		return nil, err
	}
	if got != version {
		return nil, fmt.Errorf("%w: got %d, want %d", ErrVersion, got, version)
	}
	return o, nil
}

// object holds the wanted members of a JSON object, each still as text.
type object map[string]json.RawMessage

// parseObject reads one JSON object and keeps the wanted members. Other members are ignored, as in
// the reference.
//
// Decoding into a struct would match names without regard to case, let the last of two members of
// the same name win, and ignore trailing data. Here a wanted member that appears twice is an error,
// since two parsers could disagree about which one counts. The caller bounds b.
func parseObject(b []byte, wanted ...string) (object, error) {
	d := json.NewDecoder(bytes.NewReader(b))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("%w: not a JSON object", ErrBadMessage)
	}
	o := make(object, len(wanted))
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("%w: not JSON", ErrBadMessage)
		}
		name, _ := t.(string)
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, fmt.Errorf("%w: not JSON", ErrBadMessage)
		}
		if !slices.Contains(wanted, name) {
			continue
		}
		if _, twice := o[name]; twice {
			return nil, fmt.Errorf("%w: %s appears twice", ErrBadMessage, name)
		}
		o[name] = raw
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("%w: not JSON", ErrBadMessage)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("%w: data after the JSON object", ErrBadMessage)
	}
	return o, nil
}

// head checks the opcode and returns the version.
func (o object) head(opc int) (version int, err error) {
	if got, ok := parseSmallInt(o["opc"]); !ok || got != opc {
		return 0, fmt.Errorf("%w: opc is not %d", ErrBadMessage, opc)
	}
	version, ok := parseSmallInt(o["version"])
	if !ok {
		return 0, fmt.Errorf("%w: no version", ErrBadMessage)
	}
	if version != Version1 && version != Version2 {
		return 0, fmt.Errorf("%w: %d", ErrVersion, version)
	}
	return version, nil
}

// fixedBytes fills dst from a byte array of exactly that length.
func (o object) fixedBytes(name string, dst []byte) error {
	b, err := o.bytes(name, len(dst))
	if err != nil {
		return err
	}
	if copy(dst, b) != len(dst) {
		return fmt.Errorf("%w: %s has %d bytes", ErrBadMessage, name, len(b))
	}
	return nil
}

// bytes returns a byte array of at most limit bytes.
func (o object) bytes(name string, limit int) ([]byte, error) {
	b, ok := parseByteArray(o[name], limit)
	if !ok {
		return nil, fmt.Errorf("%w: %s is not an array of up to %d bytes", ErrBadMessage, name,
			limit)
	}
	return b, nil
}

// parseSmallInt reads an integer of up to four digits, written as JSON.stringify writes it: no
// sign, fraction or exponent.
func parseSmallInt(raw []byte) (n int, ok bool) {
	if len(raw) == 0 || len(raw) > 4 {
		return 0, false
	}
	for _, c := range raw {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int(c-'0')
	}
	return n, true
}

// parseByteArray reads a JSON array of integers from 0 to 255, of up to limit elements. raw is
// valid JSON or empty, which is why leading zeros need no check here.
func parseByteArray(raw []byte, limit int) (b []byte, ok bool) {
	if len(raw) < 2 || raw[0] != '[' || raw[len(raw)-1] != ']' {
		return nil, false
	}
	rest := bytes.Trim(raw[1:len(raw)-1], jsonSpace)
	if len(rest) == 0 {
		return []byte{}, true
	}
	b = make([]byte, 0, min(limit, len(rest)/2+1))
	for more := true; more; {
		var element []byte
		element, rest, more = bytes.Cut(rest, []byte{','})
		n, isInt := parseSmallInt(bytes.Trim(element, jsonSpace))
		if !isInt || n > 255 || len(b) == limit {
			return nil, false
		}
		b = append(b, byte(n))
	}
	return b, true
}

const jsonSpace = " \t\r\n"
