//go:build linux

// Command linkem runs an emulated wide-area link between two new network namespaces until it is
// interrupted:
//
//	linkem [-delay 40ms] [-rate 100] [-queue BYTES] [-loss 0.01] [-seed 1] [-mtu 1500]
//
// It needs root. When the link is up, it prints a line with the name of each namespace and the
// address of the host in it:
//
//	ready linkem-4711-1a 198.18.0.1 linkem-4711-1b 198.18.0.2
//
// "ip netns exec linkem-4711-1a COMMAND" then runs a command on the first host. At SIGINT or
// SIGTERM, linkem removes the namespaces and prints the packet counts of both directions.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"culvert/internal/testnet/link"
)

func main() {
	var cfg link.Config
	flag.DurationVar(&cfg.Delay, "delay", 40*time.Millisecond, "one-way delay, a `time`")
	rate := flag.Float64("rate", 100, "rate of each direction in `Mbit/s`")
	flag.IntVar(&cfg.Queue, "queue", 0, "queue of each direction in `bytes` (0: a round trip's worth)")
	flag.Float64Var(&cfg.Loss, "loss", 0, "`probability` that a packet is lost")
	flag.Uint64Var(&cfg.Seed, "seed", 1, "`number` that seeds the losses")
	flag.IntVar(&cfg.MTU, "mtu", 0, "MTU in `bytes` (0: 1500)")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	cfg.Rate = *rate * 1e6
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, cfg, os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "linkem:", err)
		os.Exit(1)
	}
}

// run keeps a link up until ctx is done.
func run(ctx context.Context, cfg link.Config, out io.Writer) error {
	l, err := link.New(cfg)
	if err != nil {
		return err
	}
	fmt.Fprintln(out, "ready", l.A.Namespace, l.A.Addr, l.B.Namespace, l.B.Addr)
	<-ctx.Done()
	err = l.Close()
	fromA, fromB := l.Stats()
	fmt.Fprintf(out, "from %s: %+v\nfrom %s: %+v\n", l.A.Namespace, fromA, l.B.Namespace, fromB)
	return err
}
