package waits

import "time"

func pause() { time.Sleep(time.Second) } // not a test
