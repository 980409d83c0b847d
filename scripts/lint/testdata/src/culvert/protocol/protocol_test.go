package protocol

func g() { go g() }
