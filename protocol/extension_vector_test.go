package protocol

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const extensionVectorsFile = "testdata/extension.json"

// remakeVectors rewrites the file from its inputs. TestExtensionVectorsAgainstNode must still pass
// then.
var remakeVectors = flag.Bool("remake-extension-vectors", false,
	"rewrite "+extensionVectorsFile)

// extensionVectors is the key schedule and the first records of each suite. The key changes every
// RatchetEvery records.
type extensionVectors struct {
	KEM           hexBytes          `json:"kem"`
	ServerShare   hexBytes          `json:"serverShare"`
	ClientShare   hexBytes          `json:"clientShare"`
	ClientHello   string            `json:"clientHello"`
	ServerHello   string            `json:"serverHello"`
	ClientReady   string            `json:"clientReady"`
	Transcript    hexBytes          `json:"transcript"`
	RatchetEvery  uint64            `json:"ratchetEvery"`
	Exporter      hexBytes          `json:"exporter"`
	ExportLabel   string            `json:"exportLabel"`
	ExportContext hexBytes          `json:"exportContext"`
	Exported      hexBytes          `json:"exported"`
	Suites        []extensionVector `json:"suites"`
}

type extensionVector struct {
	Suite     string         `json:"suite"`
	ClientKey hexBytes       `json:"clientKey"`
	ServerKey hexBytes       `json:"serverKey"`
	Records   []vectorRecord `json:"records"`
}

// compute derives the outputs from the inputs.
func (v extensionVectors) compute(t *testing.T) extensionVectors {
	t.Helper()
	tr := transcript{[]byte(v.ClientHello), []byte(v.ServerHello), []byte(v.ClientReady)}
	th := tr.hash()
	v.Transcript = th[:]
	suites := v.Suites
	v.Suites = nil
	for _, s := range suites {
		k, err := deriveKeys(s.Suite, v.KEM, v.ServerShare, v.ClientShare, th)
		if err != nil {
			t.Fatal(err)
		}
		v.Exporter = k.exporter[:]
		if v.Exported, err = export(k.exporter, v.ExportLabel, v.ExportContext, 32); err != nil {
			t.Fatal(err)
		}
		s.ClientKey, s.ServerKey = k.client[:], k.server[:]
		directions := map[string]*aeadDirection{}
		for from, key := range map[string][keySize]byte{"client": k.client, "server": k.server} {
			if directions[from], err = newAEADDirection(s.Suite, key, v.RatchetEvery); err != nil {
				t.Fatal(err)
			}
		}
		var records []vectorRecord
		for _, r := range s.Records {
			if r.Record, err = directions[r.From].seal(nil, r.Payload); err != nil {
				t.Fatal(err)
			}
			records = append(records, r)
		}
		s.Records = records
		v.Suites = append(v.Suites, s)
	}
	return v
}

func readExtensionVectors(t *testing.T) (v extensionVectors, file []byte) {
	t.Helper()
	file, err := os.ReadFile(filepath.FromSlash(extensionVectorsFile))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(file, &v); err != nil {
		t.Fatal(err)
	}
	return v, file
}

// print formats the file.
func (v extensionVectors) print(t *testing.T) []byte {
	t.Helper()
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(b, '\n')
}

func extensionInputs() extensionVectors {
	share := func(first byte) []byte {
		b := make([]byte, keySize)
		for i := range b {
			b[i] = first + byte(i)
		}
		return b
	}
	v := extensionVectors{
		KEM: share(0x00), ServerShare: share(0x40), ClientShare: share(0x80),
		ClientHello:  `{"version":1,"opc":0,"client_public_key":[],"nonce":[]}`,
		ServerHello:  `{"version":1,"opc":1,"server_public_key":[],"s_blackbox_a":[]}`,
		ClientReady:  `{"version":1,"opc":2,"s_blackbox_a":[]}`,
		RatchetEvery: 2, ExportLabel: "vector", ExportContext: []byte("context"),
	}
	for _, suite := range []string{suiteAESGCM, suiteChaCha20} {
		s := extensionVector{Suite: suite}
		for _, from := range []string{"client", "server"} {
			for _, payload := range []string{
				"", "a", "the second key begins here", "", "the third", strings.Repeat("x", 100),
			} {
				s.Records = append(s.Records, vectorRecord{From: from, Payload: hexBytes(payload)})
			}
		}
		v.Suites = append(v.Suites, s)
	}
	return v
}

func TestExtensionVectors(t *testing.T) {
	if *remakeVectors {
		if err := os.WriteFile(extensionVectorsFile, extensionInputs().compute(t).print(t),
			0o644); err != nil {
			t.Fatal(err)
		}
	}
	v, file := readExtensionVectors(t)
	if len(v.Suites) != 2 || len(v.Suites[0].Records) < 12 {
		t.Fatal("the file lacks suites or records")
	}
	if got := v.compute(t).print(t); !bytes.Equal(got, file) {
		t.Errorf("got\n%s\nwant\n%s", got, file)
	}
}

// TestExtensionVectorsAgainstNode recomputes the vectors with Node's cryptography.
func TestExtensionVectorsAgainstNode(t *testing.T) {
	v, file := readExtensionVectors(t)
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is missing: run `make test-deps`")
	}
	cmd := exec.CommandContext(t.Context(), node,
		filepath.FromSlash("../scripts/interop/extension-vectors.js"))
	cmd.Stdin, cmd.Stderr = bytes.NewReader(file), os.Stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var made extensionVectors
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	if got, want := made.print(t), v.print(t); !bytes.Equal(got, want) {
		t.Errorf("Node makes\n%s\nwant\n%s", got, want)
	}
}
