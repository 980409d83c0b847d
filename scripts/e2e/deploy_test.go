//go:build linux

package e2e

import (
	"bytes"
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"culvert/internal/testnet"
)

// front is a load balancer with its configuration in docs/deploy.
type front struct {
	name     string // of the configuration
	sessions int    // that are to resume
	retries  bool   // leads a new session that a node refuses, since it drains, to another

	// settings returns what the test replaces in the configuration: each is in it.
	settings func(s *deployment) []string
	check    func(config string) []string // the command that checks a configuration
	run      func(config string) []string // the command that runs it in the foreground
	reload   func(config string) []string // the command that reloads it, nil for SIGUSR2
}

// deployment is where the parts of a front and its remotes are on the test's machine.
type deployment struct {
	port           string
	folder         string
	cert, key, pem string // PEM files; pem has both
	nodes, status  [2]string
}

var fronts = []*front{
	{
		name: "haproxy.cfg", sessions: 200, retries: true,
		settings: func(s *deployment) []string {
			return []string{
				"bind :443 ", "bind 127.0.0.1:" + s.port + " ", "/etc/haproxy/exit.pem", s.pem,
				"10.0.0.11:8080 check port 7080", s.nodes[0] + " check port " + portOf(s.status[0]),
				"10.0.0.12:8080 check port 7080", s.nodes[1] + " check port " + portOf(s.status[1]),
				"inter 1s", "inter 100ms",
			}
		},
		check: func(config string) []string { return []string{"haproxy", "-c", "-f", config} },
		run:   func(config string) []string { return []string{"haproxy", "-f", config} },
	},
	{
		name: "nginx.conf", sessions: 200, retries: true,
		settings: func(s *deployment) []string {
			return []string{
				"listen 443 ssl", "listen 127.0.0.1:" + s.port + " ssl",
				"server_name exit.example.org", "server_name localhost",
				"/etc/nginx/exit.pem", s.cert, "/etc/nginx/exit.key", s.key,
				"/run/nginx.pid", filepath.Join(s.folder, "nginx.pid"),
				"/var/log/nginx/error.log warn", "stderr warn",
				"10.0.0.11:8080", s.nodes[0], "10.0.0.12:8080", s.nodes[1],
				`10\.0\.0\.11:8080`, regexp.QuoteMeta(s.nodes[0]),
				`10\.0\.0\.12:8080`, regexp.QuoteMeta(s.nodes[1]),
			}
		},
		check: func(config string) []string { return []string{"nginx", "-t", "-c", config} },
		run: func(config string) []string {
			return []string{"nginx", "-c", config, "-g", "daemon off;"}
		},
		reload: func(config string) []string { return []string{"nginx", "-c", config, "-s", "reload"} },
	},
	{
		name: "apache.conf", sessions: 20,
		settings: func(s *deployment) []string {
			return []string{
				"Listen 443", "Listen 127.0.0.1:" + s.port, "<VirtualHost *:443>", "<VirtualHost *:*>",
				"ServerName exit.example.org", "ServerName localhost",
				"/etc/apache2/exit.pem", s.cert, "/etc/apache2/exit.key", s.key,
				"/run/apache2/apache2.pid", filepath.Join(s.folder, "apache2.pid"),
				"/var/log/apache2/error.log", filepath.Join(s.folder, "error.log"),
				"10.0.0.11:8080", s.nodes[0], "10.0.0.12:8080", s.nodes[1],
			}
		},
		check: func(config string) []string { return []string{"apachectl", "-t", "-f", config} },
		run: func(config string) []string {
			return []string{"apache2", "-D", "FOREGROUND", "-f", config}
		},
		reload: func(config string) []string {
			return []string{"apachectl", "-f", config, "-k", "graceful"}
		},
	},
	{
		name: "Caddyfile", sessions: 20, retries: true,
		settings: func(s *deployment) []string {
			return []string{
				"exit.example.org {", "https://localhost:" + s.port + " {\n\tbind 127.0.0.1",
				"admin localhost:2019", "admin unix/" + filepath.Join(s.folder, "admin"),
				"/etc/caddy/exit.pem", s.cert, "/etc/caddy/exit.key", s.key,
				"10.0.0.11:8080", s.nodes[0], "10.0.0.12:8080", s.nodes[1],
				`10\.0\.0\.11:8080`, regexp.QuoteMeta(s.nodes[0]),
				`10\.0\.0\.12:8080`, regexp.QuoteMeta(s.nodes[1]),
			}
		},
		check: func(config string) []string {
			return []string{"caddy", "validate", "--adapter", "caddyfile", "--config", config}
		},
		run: func(config string) []string {
			return []string{"caddy", "run", "--adapter", "caddyfile", "--config", config}
		},
		reload: func(config string) []string {
			return []string{"caddy", "reload", "--force", "--adapter", "caddyfile", "--config", config}
		},
	},
}

// portOf returns the port of an address.
func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// newDeployment returns one with a certificate for localhost of a CA.
func newDeployment(t *testing.T, ca *webCA, nodes, status [2]string) *deployment {
	t.Helper()
	s := &deployment{port: testnet.FreePort(t), folder: t.TempDir(), nodes: nodes, status: status}
	s.cert, s.key, _ = ca.issue(t, "localhost")
	var both []byte
	for _, file := range []string{s.cert, s.key} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		both = append(both, text...)
	}
	s.pem = writeFile(t, "both.pem", string(both))
	return s
}

// configure returns the file with the front's configuration for a deployment, after the balancer's
// own check of it.
func (f *front) configure(t *testing.T, s *deployment) (config string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../docs/deploy", f.name))
	if err != nil {
		t.Fatal(err)
	}
	settings := f.settings(s)
	for i := 0; i < len(settings); i += 2 {
		if !bytes.Contains(text, []byte(settings[i])) {
			t.Fatalf("%s: %q is not in it", f.name, settings[i])
		}
	}
	config = writeFile(t, f.name, strings.NewReplacer(settings...).Replace(string(text)))
	must(t, patience, f.command(t, f.check(config)))
	return config
}

func (f *front) command(t *testing.T, args []string) *exec.Cmd {
	t.Helper()
	return command(cleanEnv(t), t.TempDir(), needProgram(t, args[0]), args[1:]...)
}

// start starts the front, and waits until it accepts connections.
func (f *front) start(t *testing.T, s *deployment, config string) *process {
	t.Helper()
	p := start(t, f.name, f.command(t, f.run(config)))
	awaitListener(t, "127.0.0.1:"+s.port)
	return p
}

// behind is two remotes with a key each, for fronts, which pass on the clients' addresses.
type behind struct {
	ca             authority
	args           [2][]string
	nodes          [2]*node
	listen, status [2]string // where they and their health checks are, also after a restart
}

// newBehind starts both.
func newBehind(t *testing.T, client identity, flags ...string) *behind {
	t.Helper()
	b := &behind{ca: newAuthority(t)}
	authorized := writeFile(t, "authorized_keys", client.key+"\n")
	for i := range b.nodes {
		b.listen[i] = "127.0.0.1:" + testnet.FreePort(t)
		b.status[i] = "127.0.0.1:" + testnet.FreePort(t)
		key := newIdentity(t)
		b.args[i] = remoteArgs(key, append([]string{"--authorized-keys", authorized, "--cert",
			b.ca.issue(t, key, "--name", "localhost"), "--path", "/tunnel", "--trusted-proxy",
			"127.0.0.1", "--listen", b.listen[i], "--status", b.status[i]}, flags...)...)
		b.start(t, i)
	}
	return b
}

// start starts a node, or another in its place.
func (b *behind) start(t *testing.T, i int) {
	t.Helper()
	b.nodes[i] = startNode(t, fmt.Sprint("remote ", i), culvert(t, b.args[i]...))
}

// startBehind is newBehind for tests that restart no node.
func startBehind(t *testing.T, client identity, flags ...string) (
	nodes [2]*node, ca authority, listen, status [2]string,
) {
	t.Helper()
	b := newBehind(t, client, flags...)
	return b.nodes, b.ca, b.listen, b.status
}

// frontArgs are those of a local whose remotes are behind a front on a port.
func frontArgs(client identity, ca authority, tlsCA *webCA, port string, flags ...string) []string {
	return append([]string{"local", "--print-ready", "--key", client.file, "--ca", ca.cert,
		"--tls-ca", tlsCA.file, "--socks", "127.0.0.1:0", "wss://localhost:" + port + "/tunnel"},
		flags...)
}

// Each balancer runs with its configuration in docs/deploy: it passes its own check, and carries a
// tunnel through TLS under a private CA. The remotes learn where clients are.
func TestDeploy(t *testing.T) {
	t.Parallel()
	const visitor = "127.0.0.9"
	client, web, tlsCA := newIdentity(t), startSite(t), newWebCA(t)
	nodes, ca, listen, status := startBehind(t, client)
	for _, f := range fronts {
		t.Run(f.name, func(t *testing.T) {
			s := newDeployment(t, tlsCA, listen, status)
			f.start(t, s, f.configure(t, s))
			base := "https://localhost:" + s.port
			local := startNode(t, "local", culvert(t, frontArgs(client, ca, tlsCA, s.port)...))
			transfer(t, local, web)

			visit := func(path string) string {
				return run(t, patience, command(cleanEnv(t), t.TempDir(), needProgram(t, "curl"), "-q",
					"-sS", "--cacert", tlsCA.file, "--interface", visitor, "-H",
					"X-Forwarded-For: 203.0.113.9", "-o", "/dev/null", "-w", "%{http_code}",
					base+path)).stdout
			}
			marks := [2]int{len(nodes[0].stderr.String()), len(nodes[1].stderr.String())}
			if got := visit("/tunnel"); got != "426" {
				t.Errorf("a visitor of the tunnel: status %s, want 426", got)
			}
			testnet.Poll(t, patience, "a remote tells where the visitor is", func() bool {
				log := nodes[0].stderr.String()[marks[0]:] + nodes[1].stderr.String()[marks[1]:]
				return strings.Contains(log, "not a WebSocket") && strings.Contains(log, visitor+":")
			})
			if got := visit("/"); got != "404" {
				t.Errorf("a visitor elsewhere: status %s, want 404", got)
			}
		})
	}
}

// transfer downloads, and uploads, through a local's port.
func transfer(t *testing.T, local *node, web *httptest.Server) {
	t.Helper()
	const size = 1 << 20
	want := sum(t, randomBytes(size))
	got := must(t, patience, curl(t, local.socks, patience, fmt.Sprint(web.URL, "/random/", size)))
	if got := sum(t, strings.NewReader(got)); got != want {
		t.Errorf("the download: %s, want %s", got, want)
	}
	upload := curl(t, local.socks, patience, "--upload-file", "-", web.URL+"/sum")
	upload.Stdin = randomBytes(size)
	if got := strings.TrimSpace(must(t, patience, upload)); got != want {
		t.Errorf("the upload: %s, want %s", got, want)
	}
}
