package mux

func link() { go link() }
