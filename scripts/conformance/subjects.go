package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/toolshed-cloud/shed/providers/aws/standin"
	"github.com/toolshed-cloud/shed/providers/libvirttest"
	"github.com/toolshed-cloud/shed/providers/providertest"
)

// subject is a provider under test.
type subject struct {
	name string
	// fewest is how many cases it has to pass: fewer mean that it has stopped
	// offering something.
	fewest int
	// prepare readies a cloud in dir, which has a short path.
	prepare func(ctx context.Context, bin, dir string) (cloud, error)
}

// cloud is what a provider is tested on.
type cloud struct {
	// config is the file that `shed provider test` reads.
	config string
	args   []string
	// stop ends what was started; nil for nothing.
	stop func() error
}

var subjects = []subject{
	{"memory", 138, memory},
	{"qemu", 100, qemu},
	{"libvirt", 100, libvirt},
	{"aws", 80, aws},
}

func memory(ctx context.Context, bin, dir string) (cloud, error) {
	socket := filepath.Join(dir, "cloud")
	faults, stop, err := start(ctx, filepath.Join(bin, "shed-provider-memory"), "cloud", "--socket", socket)
	return cloud{
		config: fmt.Sprintf("settings: {cloud: %q}\nrotated: {cloud: %q, credentials: others}\n", socket, socket),
		args:   []string{"--faults", faults, "--patience", "10s"},
		stop:   stop,
	}, err
}

// qemu's machines boot nothing: what is tested is how they are looked after.
func qemu(_ context.Context, _, dir string) (cloud, error) {
	for _, sub := range []string{"state", "run"} {
		if err := os.Mkdir(filepath.Join(dir, sub), 0o700); err != nil {
			return cloud{}, err
		}
	}
	return cloud{config: fmt.Sprintf(`settings:
  state_dir: %q
  runtime_dir: %q
  memory_bytes: 268435456
  vcpus: 1
  accel: tcg
  grace: 10ms
`, filepath.Join(dir, "state"), filepath.Join(dir, "run"))}, nil
}

// libvirt has two daemons that stand for two hosts.
func libvirt(ctx context.Context, _, dir string) (c cloud, err error) {
	var stops []func() error
	c.stop = func() error {
		var err error
		for _, stop := range stops {
			err = errors.Join(err, stop())
		}
		return err
	}
	c.config = "settings:\n  grace: 10ms\n  sizes: [{name: small, vcpus: 1, memory_bytes: 268435456}]\n  cpu_overcommit: 64\n  hosts:\n"
	for _, name := range []string{"a", "b"} {
		at := filepath.Join(dir, name)
		if err := os.Mkdir(at, 0o700); err != nil {
			return c, errors.Join(err, c.stop())
		}
		host, err := libvirttest.Start(ctx, at)
		if err != nil {
			return c, errors.Join(err, c.stop())
		}
		stops = append(stops, host.Stop)
		c.config += fmt.Sprintf("    - {name: %s, uri: %q, pool: %s, accel: tcg}\n", name, host.URI, host.Pool)
	}
	return c, nil
}

// aws's cloud is moto's EC2 behind our proxy: what it proves, and what not, is in
// docs/aws.md.
func aws(ctx context.Context, _, _ string) (cloud, error) {
	c, err := standin.Start(ctx, standin.Options{
		Python: os.Getenv("SHED_MOTO"), MachineTag: "shed:machine", DriftTag: "shed:installation", Now: time.Now,
	})
	if err != nil {
		return cloud{}, err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return cloud{}, errors.Join(err, c.Close())
	}
	faults := &http.Server{Handler: providertest.InjectorHandler(c), ReadHeaderTimeout: 10 * time.Second}
	go func() { _ = faults.Serve(l) }()
	settings := "{region: us-east-1, endpoint: %q, access_key_id: %s, secret_access_key: secret, api_limits: 1000}"
	return cloud{
		config: fmt.Sprintf("settings: "+settings+"\nrotated: "+settings+"\n", c.URL, "AKIAONE", c.URL, "AKIATWO"),
		args:   []string{"--faults", "http://" + l.Addr().String(), "--patience", "30s"},
		stop:   func() error { return errors.Join(faults.Close(), c.Close()) },
	}, nil
}

// start runs a program that says one line once it is ready, and answers that
// line. stop interrupts it and waits.
func start(ctx context.Context, name string, args ...string) (line string, stop func() error, err error) {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", nil, err
	}
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	stop = func() error {
		err := cmd.Process.Signal(os.Interrupt)
		if errors.Is(err, os.ErrProcessDone) {
			err = nil
		}
		return errors.Join(err, cmd.Wait())
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		return "", nil, errors.Join(fmt.Errorf("%s said nothing", name), stop())
	}
	return lines.Text(), stop, nil
}
