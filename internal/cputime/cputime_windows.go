package cputime

import (
	"time"

	"golang.org/x/sys/windows"
)

func used() time.Duration {
	var created, exited, kernel, user windows.Filetime
	err := windows.GetProcessTimes(windows.CurrentProcess(), &created, &exited, &kernel, &user)
	if err != nil {
		return 0
	}
	return (ticks(kernel) + ticks(user)) * 100 // nanoseconds each
}

func ticks(t windows.Filetime) time.Duration {
	return time.Duration(int64(t.HighDateTime)<<32 | int64(t.LowDateTime))
}
