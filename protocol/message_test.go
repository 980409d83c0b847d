package protocol

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"culvert/certs"
)

// ints returns n as a JSON array of zeros.
func zeros(n int) string { return "[" + strings.TrimSuffix(strings.Repeat("0,", n), ",") + "]" }

func TestParseClientHelloAccepts(t *testing.T) {
	key := strings.TrimSuffix(strings.Repeat("7,", 32), ",")
	want := clientHello{version: 1, publicKey: certs.PublicKey(bytes.Repeat([]byte{7}, 32)),
		nonce: [8]byte{1, 2, 3, 4, 5, 6, 7, 255}}
	tests := map[string]string{
		"as the specification orders it": `{"version":1,"opc":0,"client_public_key":[` + key +
			`],"nonce":[1,2,3,4,5,6,7,255]}`,
		"as the reference sends it": `{"opc":0,"version":1,"client_public_key":[` + key +
			`],"nonce":[1,2,3,4,5,6,7,255]}`,
		"white space": " {\n\"version\" : 1 ,\t\"opc\":0,\"client_public_key\":[ " + key +
			" ],\"nonce\":[ 1,2 , 3,4,5,6,7,255\r\n]} ",
		"unknown members": `{"a":{"nonce":[0]},"version":1,"opc":0,"b":null,"b":"",` +
			`"client_public_key":[` + key + `],"nonce":[1,2,3,4,5,6,7,255],"x":["x"]}`,
		"escaped name": `{"version":1,"\u006fpc":0,"client_public_key":[` + key +
			`],"nonce":[1,2,3,4,5,6,7,255]}`,
		"name in other case besides": `{"version":1,"opc":0,"OPC":1,"Nonce":[0],` +
			`"client_public_key":[` + key + `],"nonce":[1,2,3,4,5,6,7,255]}`,
	}
	for name, message := range tests {
		t.Run(name, func(t *testing.T) {
			got, err := parseClientHello([]byte(message))
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Fatalf("got %+v, want %+v", got, want)
			}
		})
	}
}

func TestParseClientHelloRefuses(t *testing.T) {
	key, nonce := zeros(32), zeros(8)
	hello := func(version, opc, key, nonce string) string {
		return fmt.Sprintf(`{"version":%s,"opc":%s,"client_public_key":%s,"nonce":%s}`, version,
			opc, key, nonce)
	}
	tests := []struct {
		name, message string
		want          error
	}{
		{"empty", "", ErrBadMessage},
		{"array", "[]", ErrBadMessage},
		{"null", "null", ErrBadMessage},
		{"empty object", "{}", ErrBadMessage},
		{"truncated", hello("1", "0", key, nonce)[:80], ErrBadMessage},
		{"without the last brace", strings.TrimSuffix(hello("1", "0", key, nonce), "}"),
			ErrBadMessage},
		{"closed as an array", strings.TrimSuffix(hello("1", "0", key, nonce), "}") + "]",
			ErrBadMessage},
		{"data behind", hello("1", "0", key, nonce) + "{}", ErrBadMessage},
		{"opc of another message", hello("1", "1", key, nonce), ErrBadMessage},
		{"opc as a string", hello("1", `"0"`, key, nonce), ErrBadMessage},
		{"opc as a fraction", hello("1", "0.0", key, nonce), ErrBadMessage},
		{"negative zero", hello("1", "-0", key, nonce), ErrBadMessage},
		{"version as a string", hello(`"1"`, "0", key, nonce), ErrBadMessage},
		{"version as an exponent", hello("1e0", "0", key, nonce), ErrBadMessage},
		{"version 0", hello("0", "0", key, nonce), ErrVersion},
		{"version 3", hello("3", "0", key, nonce), ErrVersion},
		{"version 3 with other members", `{"version":3,"opc":0}`, ErrVersion},
		{"key too short", hello("1", "0", zeros(31), nonce), ErrBadMessage},
		{"key too long", hello("1", "0", zeros(33), nonce), ErrBadMessage},
		{"key as base64", hello("1", "0", `"AAAA"`, nonce), ErrBadMessage},
		{"key as an object", hello("1", "0", `{"0":0}`, nonce), ErrBadMessage},
		{"key null", hello("1", "0", "null", nonce), ErrBadMessage},
		{"nonce too short", hello("1", "0", key, zeros(7)), ErrBadMessage},
		{"nonce too long", hello("1", "0", key, zeros(9)), ErrBadMessage},
		{"nonce empty", hello("1", "0", key, "[]"), ErrBadMessage},
		{"element 256", hello("1", "0", key, "[0,0,0,0,0,0,0,256]"), ErrBadMessage},
		{"element -1", hello("1", "0", key, "[0,0,0,0,0,0,0,-1]"), ErrBadMessage},
		{"element 1.0", hello("1", "0", key, "[0,0,0,0,0,0,0,1.0]"), ErrBadMessage},
		{"element 1e1", hello("1", "0", key, "[0,0,0,0,0,0,0,1e1]"), ErrBadMessage},
		{"element null", hello("1", "0", key, "[0,0,0,0,0,0,0,null]"), ErrBadMessage},
		{"element string", hello("1", "0", key, `[0,0,0,0,0,0,0,"1"]`), ErrBadMessage},
		{"element array", hello("1", "0", key, "[0,0,0,0,0,0,0,[1]]"), ErrBadMessage},
		{"element with a leading zero", hello("1", "0", key, "[0,0,0,0,0,0,0,01]"), ErrBadMessage},
		{"comma at the end", hello("1", "0", key, "[0,0,0,0,0,0,0,0,]"), ErrBadMessage},
		{"a member twice", `{"version":1,"opc":0,"client_public_key":` + key + `,"nonce":` + nonce +
			`,"nonce":` + nonce + `}`, ErrBadMessage},
		{"a member missing", `{"version":1,"opc":0,"client_public_key":` + key + `}`,
			ErrBadMessage},
		{"name in other case", `{"Version":1,"opc":0,"client_public_key":` + key + `,"nonce":` +
			nonce + `}`, ErrBadMessage},
		{"too large", hello("1", "0", key, nonce) + strings.Repeat(" ", maxClientHello),
			ErrTooLarge},
		{"deep nesting", `{"a":` + strings.Repeat("[", maxClientHello/2), ErrBadMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if _, err := parseClientHello([]byte(tt.message)); !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want %v", err, tt.want)
			}
		})
	}
}

// TestMessagesParseBack parses each encoded message, with the largest box allowed.
func TestMessagesParseBack(t *testing.T) {
	for _, version := range []int{Version1, Version2} {
		box := bytes.Repeat([]byte{255}, maxBox(version))
		key := certs.PublicKey(bytes.Repeat([]byte{255}, 32))
		sh := serverHello{version: version, publicKey: key, box: box}
		if len(sh.marshal()) > maxSealedMessage(version) {
			t.Errorf("version %d: the largest box takes %d bytes, more than %d", version,
				len(sh.marshal()), maxSealedMessage(version))
		}
		gotSH, err := parseServerHello(sh.marshal(), version)
		if err != nil || gotSH.version != version || gotSH.publicKey != key ||
			!bytes.Equal(gotSH.box, box) {
			t.Errorf("version %d: ServerHello did not parse back: %v", version, err)
		}
		cr := clientReady{version: version, box: box}
		gotCR, err := parseClientReady(cr.marshal(), version)
		if err != nil || gotCR.version != version || !bytes.Equal(gotCR.box, box) {
			t.Errorf("version %d: ClientReady did not parse back: %v", version, err)
		}
		cr.box = append(cr.box, 0)
		if _, err := parseClientReady(cr.marshal(), version); !errors.Is(err, ErrBadMessage) {
			t.Errorf("version %d: a box beyond its limit: got %v, want ErrBadMessage", version, err)
		}
		if _, err := parseClientReady(clientReady{version: 3 - version}.marshal(),
			version); !errors.Is(err, ErrVersion) {
			t.Errorf("version %d: ClientReady of another version: got %v, want ErrVersion", version,
				err)
		}
		large := append(cr.marshal(), bytes.Repeat([]byte{' '}, maxSealedMessage(version))...)
		if _, err := parseClientReady(large, version); !errors.Is(err, ErrTooLarge) {
			t.Errorf("version %d: got %v, want ErrTooLarge", version, err)
		}
	}
}

// TestMessagesHoldLargestCertificate checks that the limits leave room for the largest certificate.
func TestMessagesHoldLargestCertificate(t *testing.T) {
	tail := len(`{"cert":,"requireCert":false}`) + certs.MaxCertificateSize
	if need := secretsSize + tail + boxOverhead; need > maxBox(Version2) {
		t.Fatalf("a box with the largest certificate takes %d bytes, more than %d", need,
			maxBox(Version2))
	}
}

func TestParseServerTail(t *testing.T) {
	a := newAuthority(t, "CA")
	cert := string(a.issue(t, newKey(t, "server"), []string{"a.example"}, nil).JSON())
	tests := []struct {
		name, tail string
		required   bool
		want       error
	}{
		{"not required", `{"cert":` + cert + `,"requireCert":false}`, false, nil},
		{"required", `{"requireCert":true,"cert":` + cert + `}`, true, nil},
		{"not said", `{"cert":` + cert + `}`, false, nil},
		{"null", `{"cert":` + cert + `,"requireCert":null}`, false, nil},
		{"unknown members", `{"cert":` + cert + `,"requireCert":true,"ext":{"a":1}}`, true, nil},
		{"a number", `{"cert":` + cert + `,"requireCert":1}`, false, ErrBadMessage},
		{"a string", `{"cert":` + cert + `,"requireCert":"false"}`, false, ErrBadMessage},
		{"no certificate", `{"requireCert":false}`, false, ErrBadMessage},
		{"null certificate", `{"cert":null,"requireCert":false}`, false, ErrBadMessage},
		{"empty certificate", `{"cert":{},"requireCert":false}`, false, ErrBadMessage},
		{"two certificates", `{"cert":` + cert + `,"cert":` + cert + `}`, false, ErrBadMessage},
		{"nothing", ``, false, ErrBadMessage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, required, err := parseServerTail([]byte(tt.tail))
			if !errors.Is(err, tt.want) {
				t.Fatalf("got error %v, want %v", err, tt.want)
			}
			if err != nil {
				return
			}
			if required != tt.required || string(got.JSON()) != cert {
				t.Fatalf("got required %v and certificate %s", required, got.JSON())
			}
		})
	}
}
