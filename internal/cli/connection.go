package cli

import (
	"bufio"
	"errors"
	"net/http"
	"net/textproto"
	"net/url"
	"strings"

	"culvert/tunnel"

	"github.com/urfave/cli/v2"
)

// connectionFlags say how the remote is reached. All commands that connect to one have them.
func connectionFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "via", EnvVars: env("via"), Category: "connection",
			Usage: "connect by way of the proxy at `URL`, http://[USER:PASS@]HOST:PORT or socks5://…; with a password better given by its variable"},
		&cli.StringSliceFlag{Name: "header", EnvVars: env("header"), Category: "connection",
			Usage: "send the HTTP `HEADER`, as in 'Name: value', when connecting; repeatable"},
		&cli.StringFlag{Name: "host", EnvVars: env("host"), Category: "connection",
			Usage: "send `NAME` as the Host header in place of the URL's"},
		&cli.StringFlag{Name: "tls-ca", EnvVars: env("tls-ca"), Category: "connection",
			Usage: "for wss://: trust the CA in `FILE` and no other, in PEM"},
		&cli.StringFlag{Name: "tls-server-name", EnvVars: env("tls-server-name"), Category: "connection",
			Usage: "for wss://: the remote's certificate must be for `NAME` in place of the URL's host"},
	}
}

// loadConnection reads connectionFlags.
func loadConnection(c *cli.Context, address tunnel.Address, cfg *tunnel.LocalConfig) error {
	var err error
	if text := c.String("via"); text != "" {
		if cfg.Via, err = tunnel.ParseProxy(text); err != nil {
			return usage("it is http://HOST:PORT or socks5://HOST:PORT, with USER:PASS@ before HOST where it asks for them; "+
				"special characters are written as %XX", "bad --via: %v", err)
		}
	}
	if cfg.TLS, err = loadClientTLS(c, address); err != nil {
		return err
	}
	if cfg.Header, err = parseHeaders(c.StringSlice("header")); err != nil {
		return err
	}
	if host := c.String("host"); host != "" {
		if u, err := url.Parse("http://" + host); err != nil || u.Host != host {
			return usage("such as example.org or example.org:8080", "bad --host %q", host)
		}
		cfg.Header.Set("Host", host)
	}
	return nil
}

// parseHeaders reads all --header. Errors quote no value, which may be a secret.
func parseHeaders(texts []string) (http.Header, error) {
	header := http.Header{}
	for _, text := range texts {
		name, value, err := parseHeader(text)
		if err != nil {
			return nil, usage("it is 'NAME: VALUE', such as 'X-Token: 1234'", "bad --header")
		}
		switch name {
		case "Host":
			return nil, usage("give --host NAME", "--header can't set %s", name)
		case "Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Sec-Websocket-Key", "Sec-Websocket-Version",
			"Sec-Websocket-Extensions", "Sec-Websocket-Protocol":
			return nil, usage("it belongs to the WebSocket", "--header can't set %s", name)
		}
		header.Add(name, value)
	}
	return header, nil
}

// tokenChars are those of a header's name (RFC 9110, section 5.6.2).
const tokenChars = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

var errBadHeader = errors.New("not one HTTP header")

// parseHeader reads a header as a server would.
func parseHeader(text string) (name, value string, err error) {
	r := textproto.NewReader(bufio.NewReader(strings.NewReader(text + "\r\n\r\n")))
	header, err := r.ReadMIMEHeader()
	if err != nil || strings.ContainsAny(text, "\r\n") {
		return "", "", errBadHeader
	}
	for name := range header {
		if strings.Trim(name, tokenChars) != "" {
			break
		}
		return name, header.Get(name), nil
	}
	return "", "", errBadHeader
}
