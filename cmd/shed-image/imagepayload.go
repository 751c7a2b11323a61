package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/pflag"

	"github.com/toolshed-cloud/shed/attest/payload"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
	"github.com/toolshed-cloud/shed/imagebuild"
)

var imageBuildLong = `build makes an image that runs the toolshed, or with --payload any server in its
place:

  shed image build --output RELEASE --payload DIR --command 'server --quiet' \
    --health /health --network 'api.example.com:443'

DIR is the root that the server sees. A program that needs no library is enough;
one with libraries or an interpreter brings them, and build names what is
missing. Up to ` + strconv.Itoa(imagebuild.MostInImage>>20) + ` MiB go into the image; more becomes a read-only file system on
the boot disk, whose hash stands in the measured command line. The server writes
to /data, which is its owner's, and to /tmp.

It is told to listen on a Unix socket by SHED_SOCKET, or with --payload-port on
that port of 127.0.0.1 by SHED_PORT, and answers GET on the health path with 200
once it serves. --network is whom it may reach: off, open, or hosts and ports. No
right leads to loopback, link-local and metadata addresses, the machine's own
link, or the control plane.

All of this is measured, and stands in the manifest. docs/writing-a-payload.md has
more, with examples.

Which packages of Debian's, which files of them and which Go built the programs
the lock says, by SHA-256: the same lock, programs and flags give the same bytes
on every machine, and what is not as the lock says is refused by its name. --lock
names another lock than the one this program was made with.

Beside disk.raw, uki.efi and manifest.json come image.lock, with the digest of the
source, sbom.cdx.json (CycloneDX 1.6: packages, modules, Go modules) and
provenance.json (SLSA 1.0 in an in-toto statement). The manifest names them with
their digests, so whoever signs it signs them.

The programs come from shed's make build: go build -trimpath -buildvcs=false
-ldflags='-s -w -buildid=' with CGO_ENABLED=0. For shed release rebuild, --archive
keeps every input: Debian drops packages that are superseded.`

// payloadFlags are what a payload is declared by.
type payloadFlags struct {
	dir, command, health, network, memory, socket string
	arguments, environment                        []string
	port, user, processes, openFiles              int
}

// ofPayload are the names of the flags that are for another payload alone.
var ofPayload = []string{
	"command", "argument", "env", "health", "payload-socket", "payload-port", "payload-user", "network", "memory", "processes", "open-files",
}

func (f *payloadFlags) register(flags *pflag.FlagSet) {
	d := payload.Default()
	flags.StringVar(&f.dir, "payload", "", "directory with a server that runs in the toolshed's place")
	flags.StringVar(&f.command, "command", "", "its program, by a path in the directory or a name, and arguments, separated by spaces")
	flags.StringArrayVar(&f.arguments, "argument", nil, "one more argument, which may have spaces; can be repeated")
	flags.StringArrayVar(&f.environment, "env", nil, "NAME=value that it is told; can be repeated")
	flags.StringVar(&f.health, "health", d.Health, "path that answers 200 while it serves")
	flags.StringVar(&f.socket, "payload-socket", d.Listen.Socket, "Unix socket that it answers on, in "+payload.SocketDir)
	flags.IntVar(&f.port, "payload-port", 0, "TCP port of 127.0.0.1 that it answers on, instead of a socket")
	flags.IntVar(&f.user, "payload-user", d.User, "number of its user and group")
	flags.StringVar(&f.network, "network", d.Network.String(), "whom it may reach: off, open, or hosts and ports such as example.com:443,[2001:db8::1]:53")
	flags.StringVar(&f.memory, "memory", "0", "memory that it may use, such as 256MiB; 0 is the machine's")
	flags.IntVar(&f.processes, "processes", d.Limits.Processes, "processes and threads that it may have")
	flags.IntVar(&f.openFiles, "open-files", d.Limits.OpenFiles, "files that it may have open")
}

// set puts a payload into the options where one is asked for.
func (f *payloadFlags) set(flags *pflag.FlagSet, o *imagebuild.Options) error {
	if f.dir == "" {
		for _, name := range ofPayload {
			if flags.Changed(name) {
				return fmt.Errorf("--%s is for another payload than the toolshed: name its directory with --payload", name)
			}
		}
		return nil
	}
	if flags.Changed("toolshed") {
		return errors.New("--payload takes the place of --toolshed")
	}
	if flags.Changed("payload-port") && flags.Changed("payload-socket") {
		return errors.New("--payload-port and --payload-socket: the payload answers on one")
	}
	if _, err := os.Stat(f.dir); err != nil {
		return fmt.Errorf("--payload: %w", err)
	}
	spec, err := f.spec()
	if err != nil {
		return err
	}
	o.Payload, o.PayloadDir = spec, f.dir
	return nil
}

func (f *payloadFlags) spec() (*payload.Spec, error) {
	s := payload.Default()
	s.Command = append(strings.Fields(f.command), f.arguments...)
	if len(s.Command) == 0 {
		return nil, errors.New("--payload wants --command: the program in the directory that is started")
	}
	s.Environment = slices.Sorted(slices.Values(f.environment))
	s.Health, s.User = f.health, f.user
	s.Limits.Processes, s.Limits.OpenFiles = f.processes, f.openFiles
	s.Listen = payload.Listen{Socket: f.socket}
	if f.port != 0 {
		s.Listen = payload.Listen{Port: f.port}
	}
	var err error
	if s.Limits.MemoryBytes, err = parseSize(f.memory); err != nil {
		return nil, fmt.Errorf("--memory: %w", err)
	}
	if s.Network, err = payload.ParseNetwork(f.network); err != nil {
		return nil, fmt.Errorf("--network: %w", err)
	}
	return &s, nil
}

// units are of sizes; a number alone is bytes.
var units = []struct {
	suffix string
	bytes  int64
}{{"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}}

func parseSize(text string) (int64, error) {
	number, unit := text, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.suffix); ok {
			number, unit = rest, u.bytes
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0, fmt.Errorf("%q is no size such as 256MiB", text)
	}
	return n * unit, nil
}

// explainPayload adds what a person can do about a payload that would not start;
// nil where the error is another's.
func explainPayload(err error) error {
	missing, ok := errors.AsType[*imagebuild.PayloadMissingError](err)
	switch {
	case !ok:
		return nil
	case len(missing.Also) > 0:
		return cli.Hinted(cli.Usage(err), "put them where the loader looks, such as DIR/usr/lib: dpkg -S %s names the package of the first, and so on", missing.Name)
	case missing.Library:
		return cli.Hinted(cli.Usage(err), "put it where the loader looks, such as DIR/usr/lib: dpkg -S %s names the package", missing.Name)
	}
	return cli.Hinted(cli.Usage(err), "paths are those in the payload's directory, which is its root")
}
