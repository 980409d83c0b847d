package mux

func frame() { go frame() } // want `mux must not start a goroutine`
