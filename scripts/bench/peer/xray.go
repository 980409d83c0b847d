package peer

import (
	"context"
	"encoding/json"
)

// xrayUser is the user of both protocols.
const xrayUser = "5c2d0f5e-2ab9-4c11-9e0c-6d2a8f1b7c30"

// xrayProtocol is the protocol between the two ends of Xray.
type xrayProtocol struct {
	name   string
	user   object // in the near end's settings
	server object // the far end's settings
}

type object = map[string]any

var (
	// VLESS leaves encryption to TLS, which isn't used here.
	vless = xrayProtocol{
		name:   "vless",
		user:   object{"id": xrayUser, "encryption": "none"},
		server: object{"clients": []object{{"id": xrayUser}}, "decryption": "none"},
	}
	vmess = xrayProtocol{
		name:   "vmess",
		user:   object{"id": xrayUser, "security": "aes-128-gcm"},
		server: object{"clients": []object{{"id": xrayUser}}},
	}
)

// startXray starts both ends, over WebSocket, with mux and its defaults.
func startXray(protocol xrayProtocol) func(context.Context, Setting, *Peer) error {
	return func(ctx context.Context, s Setting, p *Peer) error {
		stream := object{"network": "ws", "wsSettings": object{"path": "/bench"}}
		address, err := s.server(ctx, p, func(listen string) error {
			inbound := object{"protocol": protocol.name, "settings": protocol.server,
				"streamSettings": stream}
			outbound := object{"protocol": "freedom"}
			return s.xray(ctx, p, s.Far, "far.json", listen, inbound, outbound)
		})
		if err != nil {
			return err
		}
		host, port, err := splitPort(address)
		if err != nil {
			return err
		}
		socks, err := FreePort()
		if err != nil {
			return err
		}
		p.Socks = "127.0.0.1:" + socks
		inbound := object{"protocol": "socks", "settings": object{"auth": "noauth", "udp": false}}
		outbound := object{
			"protocol": protocol.name,
			"settings": object{"vnext": []object{{"address": host, "port": port,
				"users": []object{protocol.user}}}},
			"streamSettings": stream,
			"mux":            object{"enabled": true},
		}
		return s.xray(ctx, p, s.Near, "near.json", p.Socks, inbound, outbound)
	}
}

// xray starts an end.
func (s Setting) xray(ctx context.Context, p *Peer, h Host, file, listen string, inbound,
	outbound object) error {
	host, port, err := splitPort(listen)
	if err != nil {
		return err
	}
	inbound["listen"], inbound["port"] = host, port
	text, err := json.MarshalIndent(object{
		"log":       object{"loglevel": "error"},
		"inbounds":  []object{inbound},
		"outbounds": []object{outbound},
	}, "", " ")
	if err != nil {
		return err
	}
	config, err := s.write(file, string(text))
	if err != nil {
		return err
	}
	cmd := h.Command(s.Programs.Xray, "run", "-c", config)
	cmd.Env = Environment(s.Folder)
	process, err := s.Starter.Start("xray", cmd)
	if err != nil {
		return err
	}
	p.add(process)
	return waitFor(ctx, process, listen)
}
