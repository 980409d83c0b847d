package tunnel

import (
	"net"
	"sync"

	"culvert/internal/congestion"

	"github.com/rs/zerolog"
)

// carrierCongestion gives carriers the congestion control of the configuration.
type carrierCongestion struct {
	choice string // of package congestion
	log    zerolog.Logger
	failed sync.Once
}

func newCarrierCongestion(choice string, log zerolog.Logger) *carrierCongestion {
	if choice == "" {
		choice = congestion.Auto
	}
	return &carrierCongestion{choice: choice, log: log}
}

// apply makes the choice for a carrier's connection, and returns the name of what is in force, ""
// if that is not known. The system's own choice serves as well when this one fails, which is logged
// once.
func (c *carrierCongestion) apply(conn net.Conn) (inForce string) {
	err := congestion.Apply(conn, c.choice)
	inForce = congestion.Of(conn)
	if err != nil {
		c.failed.Do(func() {
			c.log.Warn().Err(err).Str("congestion", inForce).
				Msg("the congestion control stays as the system has it")
		})
	}
	return inForce
}
