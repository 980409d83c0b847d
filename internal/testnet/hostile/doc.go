// Package hostile is the peer that breaks the rules: it speaks the handshake as it must, and then
// sends whatever frames it likes. Package mux documents these.
package hostile
