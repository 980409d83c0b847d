//go:build linux

package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"culvert/internal/testnet"
)

// startHAProxy starts HAProxy in front of an address in a mode, with options of the front end and
// of the server, and returns its address.
func startHAProxy(t *testing.T, mode, front, to, server string) string {
	t.Helper()
	address := "127.0.0.1:" + testnet.FreePort(t)
	config := writeFile(t, "haproxy.cfg", fmt.Sprintf(`defaults
  mode %s
  timeout connect 10s
  timeout client 1m
  timeout server 1m
  timeout tunnel 1h
frontend front
  bind %s
  %s
  default_backend remote
backend remote
  server remote %s %s
`, mode, address, front, to, server))
	start(t, "haproxy", command(cleanEnv(t), t.TempDir(), needProgram(t, "haproxy"),
		"-db", "-q", "-f", config))
	awaitListener(t, address)
	return address
}

// nginxBefore starts nginx in front of a unix socket, and returns its address.
func nginxBefore(t *testing.T, socket string) string {
	t.Helper()
	address := "127.0.0.1:" + testnet.FreePort(t)
	startNginx(t, address, fmt.Sprintf(`listen %s;
    location / {
      proxy_pass http://unix:%s;
      proxy_http_version 1.1;
      proxy_set_header Host $host;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $http_connection;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }`, address, socket))
	return address
}

// startNginx starts nginx with what one server does, and waits until it listens on an address.
func startNginx(t *testing.T, address, server string) {
	t.Helper()
	folder := t.TempDir()
	config := writeFile(t, "nginx.conf", fmt.Sprintf(`user root;
worker_processes 1;
daemon off;
pid nginx.pid;
error_log stderr;
events {}
http {
  access_log off;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    %s
  }
}
`, server))
	start(t, "nginx",
		command(cleanEnv(t), folder, needProgram(t, "nginx"), "-p", folder, "-c", config))
	awaitListener(t, address)
}

// A remote behind a proxy that it trusts learns where its clients are, whatever they claim
// themselves, and tells the fallback site. Behind one that it doesn't trust, it says at start that
// it can't tell. Tunnels work in each case.
func TestTrustedProxy(t *testing.T) {
	t.Parallel()
	const visitor = "127.0.0.9"
	ca := newWebCA(t)
	certFile, keyFile, _ := ca.issue(t, "exit.culvert.test")
	tls := []string{"--tls-cert", certFile, "--tls-key", keyFile}
	site := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, strings.Join(r.Header.Values("X-Forwarded-For"), ", "))
	}))
	t.Cleanup(site.Close)
	socket := filepath.Join(t.TempDir(), "remote.sock")
	forwardFor := func(t *testing.T, to string) string {
		return startHAProxy(t, "http", "option forwardfor", to, "")
	}
	send := func(option string) func(*testing.T, string) string {
		return func(t *testing.T, to string) string { return startHAProxy(t, "tcp", "", to, option) }
	}
	trust := []string{"--trusted-proxy", "127.0.0.1"}
	for name, test := range map[string]struct {
		remote []string
		front  func(t *testing.T, to string) string
		secure bool
		want   string // the visitor's address
		warned bool
	}{
		"HAProxy, X-Forwarded-For": {trust, forwardFor, false, visitor, false},
		"HAProxy, PROXY version 1": {trust, send("send-proxy"), false, visitor, false},
		"HAProxy, PROXY version 2": {trust, send("send-proxy-v2"), false, visitor, false},
		"HAProxy, PROXY before TLS": {append(tls, trust...), send("send-proxy-v2"), true, visitor,
			false},
		"HAProxy, not trusted": {nil, forwardFor, false, "127.0.0.1", true},
		"HAProxy, another one trusted": {[]string{"--trusted-proxy", "192.0.2.0/24"}, forwardFor,
			false, "127.0.0.1", true},
		"nginx, on a unix socket": {
			[]string{"--listen", "unix:" + socket, "--trusted-proxy", "unix"},
			func(t *testing.T, _ string) string { return nginxBefore(t, socket) }, false, visitor, false},
	} {
		t.Run(name, func(t *testing.T) {
			server, client := newIdentity(t), newIdentity(t)
			remote := startNode(t, "remote", culvert(t, remoteArgs(server, append([]string{
				"--path", "/tunnel", "--fallback", site.URL,
				"--authorized-keys", writeFile(t, "authorized_keys", client.key+"\n")},
				test.remote...)...)...))
			front := test.front(t, remote.listen[0])
			scheme := ""
			curl := []string{"-q", "-sS", "--interface", visitor, "-H", "X-Forwarded-For: 203.0.113.9"}
			local := []string{}
			if test.secure {
				scheme = "s"
				curl = append(curl, "--insecure")
				local = append(local, "--tls-ca", ca.file, "--tls-server-name", "exit.culvert.test")
			}
			r := run(t, patience, command(cleanEnv(t), t.TempDir(), needProgram(t, "curl"),
				append(curl, "http"+scheme+"://"+front+"/")...))
			if got := strings.TrimSpace(r.stdout); r.status != 0 || got != test.want {
				t.Errorf("status %d, the visitor is at %q, want %q; %s", r.status, got, test.want, r.stderr)
			}
			startNode(t, "local", culvert(t,
				localArgs(client, server, "ws"+scheme+"://"+front+"/tunnel", local...)...))
			const line = "no shares or penalties per address"
			if got := strings.Contains(remote.stderr.String(), line); got != test.warned {
				t.Errorf("the line at start: %v, want %v", got, test.warned)
			}
		})
	}
	r := run(t, patience, culvert(t, remoteArgs(newIdentity(t), "--allow-anyone",
		"--trusted-proxy", "proxy.example.org")...))
	if r.status != 2 || !strings.Contains(r.stderr, "--trusted-proxy") {
		t.Errorf("a name for a network: status %d, %s", r.status, r.stderr)
	}
}
