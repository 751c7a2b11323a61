package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"

	"github.com/toolshed-cloud/shed/toolshed"
	"github.com/toolshed-cloud/shed/toolshed/config"
	"github.com/toolshed-cloud/shed/toolshed/store"
)

// errUsage says that the command line or the environment makes no sense.
var errUsage = errors.New("wrong usage")

const usage = `toolshed serves your own API: https://github.com/toolshed-cloud/shed

Usage: toolshed [flags]

  --data DIR       where everything is kept            (SHED_DATA; needed)
  --listen ADDR    host:port to serve on, alone        (SHED_LISTEN; 127.0.0.1:8080)
  --config FILE    its configuration                   (SHED_CONFIG; DIR/toolshed.yaml where there is one)
  --new-token      print another token of the owner's

SHED_SOCKET is the Unix socket of a machine's agent. With it the toolshed serves
the agent alone, and believes the header Shed-Owner. SHED_RELEASE, SHED_EPOCH and
SHED_HARDWARE_REPORTS are what the agent says of its machine, for the home page.

Served alone it prints a token when it starts for the first time; requests bear
it as "Authorization: Bearer TOKEN". It speaks HTTP without TLS: put a server
that does in front of any address but a loopback one.

Exit codes: 0 done, 1 failed, 2 wrong usage.
`

const defaultListen = "127.0.0.1:8080"

// settings are where the toolshed serves, and on what.
type settings struct {
	socket, listen, data, config string
	newToken                     bool
	// machine is what the agent says of it.
	machine toolshed.Machine
}

// parse reads flags over the environment.
func parse(args []string, env func(string) (string, bool), out io.Writer) (settings, error) {
	get := func(name, fallback string) string {
		if v, ok := env(name); ok && v != "" {
			return v
		}
		return fallback
	}
	s := settings{socket: get("SHED_SOCKET", "")}
	if s.socket != "" {
		s.machine = toolshed.Machine{Release: get("SHED_RELEASE", ""), Epoch: get("SHED_EPOCH", ""), HardwareReports: get("SHED_HARDWARE_REPORTS", "")}
	}
	flags := flag.NewFlagSet("toolshed", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.StringVar(&s.listen, "listen", get("SHED_LISTEN", ""), "")
	flags.StringVar(&s.data, "data", get("SHED_DATA", ""), "")
	flags.StringVar(&s.config, "config", get("SHED_CONFIG", ""), "")
	flags.BoolVar(&s.newToken, "new-token", false, "")
	err := flags.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(out, usage)
		return s, err
	case err != nil:
		return s, fmt.Errorf("%w: %w", errUsage, err)
	case flags.NArg() > 0:
		return s, fmt.Errorf("%w: unexpected argument %q", errUsage, flags.Arg(0))
	case s.data == "":
		return s, fmt.Errorf("%w: --data or SHED_DATA must say where everything is kept", errUsage)
	case s.socket != "" && (s.listen != "" || s.newToken):
		return s, fmt.Errorf("%w: SHED_SOCKET is for serving an agent alone: no --listen, SHED_LISTEN or --new-token beside it", errUsage)
	case s.socket == "" && s.listen == "":
		s.listen = defaultListen
	}
	return s, nil
}

func (s settings) configPath(d *store.Directory) string {
	if s.config != "" {
		return s.config
	}
	return d.Path(config.FileName)
}

func (s settings) listenOn() (net.Listener, error) {
	network, address := "tcp", s.listen
	if s.socket != "" {
		network, address = "unix", s.socket
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}
