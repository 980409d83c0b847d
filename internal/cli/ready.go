package cli

import (
	"encoding/json"
	"io"
)

// readyUsage describes --print-ready, which several commands have.
const readyUsage = "print a line of JSON once everything is up"

// readyLine is what --print-ready prints: the addresses that were really bound, in the order of
// their flags.
type readyLine struct {
	Event     string   `json:"event"` // "ready"
	Listen    []string `json:"listen,omitempty"`
	Socks     string   `json:"socks,omitempty"`
	PAC       string   `json:"pac,omitempty"`
	Forwards  []string `json:"forwards,omitempty"`
	Reverse   []string `json:"reverse,omitempty"` // at the remote
	Status    string   `json:"status,omitempty"`  // the URL of the page, with its token
	PublicKey string   `json:"public_key"`
}

func printReadyLine(w io.Writer, line readyLine) {
	line.Event = "ready"
	json.NewEncoder(w).Encode(line)
}
