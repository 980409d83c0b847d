package pace

// startup is the first phase of a model, in which inflight data doubles each round until the pipe
// is filled.
type startup struct {
	filledPipe    bool    // the startup is over
	fullBandwidth float64 // the bandwidth that it has reached, bytes a second
	flatRounds    int     // rounds since, without fullGrowth
	minInflight   uint64  // least bound meanwhile, bytes
}

// onRound takes a round's rate sample, and reports whether the pipe is filled now: the bandwidth
// does not grow any more, or a queue does.
func (s *startup) onRound(sample float64, queued bool) bool {
	if sample >= fullGrowth*s.fullBandwidth {
		s.fullBandwidth, s.flatRounds = sample, 0
		return false
	}
	s.flatRounds++
	s.filledPipe = s.flatRounds >= fullRounds || (s.flatRounds == fullRounds-1 && queued)
	return s.filledPipe
}

// restart begins the startup again on a path that has become faster.
func (s *startup) restart(bandwidth float64) {
	s.filledPipe, s.fullBandwidth, s.flatRounds = false, bandwidth, 0
}
