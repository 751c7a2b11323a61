package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"text/template"
	"time"
)

// control is a running control plane.
type control struct {
	place place
	cmd   *exec.Cmd
	// ended is closed once the process has.
	ended chan struct{}
	ports ports

	// witnessMu guards witnesses, and gone, which says that the control plane
	// has ended.
	witnessMu sync.Mutex
	witnesses []*exec.Cmd
	gone      bool
}

// ports are the listeners on loopback; they stay those of the first run, since
// machines remember the agents' one.
type ports struct {
	Admin    int `json:"admin"`
	Webhooks int `json:"webhooks"`
	Agents   int `json:"agents"`
	// Connect is the owner's local proxy's.
	Connect int `json:"connect"`
	// Transparency is the log's, Witnesses are those of the local run's own.
	Transparency int               `json:"transparency"`
	Witnesses    [witnessCount]int `json:"witnesses"`
}

var configTemplate = template.Must(template.New("shed.yaml").Parse(`# Made by 'make up' for a local run.
version: 1
listen:
  admin: 127.0.0.1:{{.Ports.Admin}}
  webhooks: 127.0.0.1:{{.Ports.Webhooks}}
  agents: 127.0.0.1:{{.Ports.Agents}}
  transparency: 127.0.0.1:{{.Ports.Transparency}}
agents:
  # QEMU's user-mode network reaches this host's loopback here.
  advertise: 10.0.2.2:{{.Ports.Agents}}
  heartbeat: 2s
release:
  key_file: {{.ReleaseKey}}
policy:
  # An emulated TPM proves consistency and nothing against this host.
  minimum_tier: software
  ek_roots:
{{- range .Provider.Roots}}
    - file: {{.}}
      tier: software
{{- else}} []
{{- end}}
provider:
  name: {{.Provider.Name}}
  settings:
    {{.Provider.Settings}}
transparency:
  origin: {{.Origin}}
  # Witnesses of our own show how it works and vouch for nothing: clients are
  # told that they are labelled dev.
  witnesses:
{{- range .Witnesses}}
    - url: http://127.0.0.1:{{.Port}}
      key: {{.Key}}
{{- end}}
  refresh: 1m
instance:
  region: {{.Provider.Region}}
  size: {{.Provider.Size}}
  data_bytes: 268435456
limits:
  machines: 4
`))

// witness is one as the configuration names it.
type witness struct {
	Port int
	Key  string
}

// configure writes the configuration.
func (p place) configure(ctx context.Context) (ports, error) {
	path := p.in("control", "ports.json")
	var chosen ports
	if b, err := os.ReadFile(path); err == nil {
		if err := json.Unmarshal(b, &chosen); err != nil {
			return ports{}, fmt.Errorf("reading %s: %w", path, err)
		}
	}
	// A state from before there was a log has no ports for it.
	if err := chosen.choose(); err != nil {
		return ports{}, err
	}
	keys, err := p.witnessKeys(ctx)
	if err != nil {
		return ports{}, err
	}
	witnesses := make([]witness, len(keys))
	for n, key := range keys {
		witnesses[n] = witness{Port: chosen.Witnesses[n], Key: key}
	}
	f, err := os.Create(p.config())
	if err != nil {
		return ports{}, fmt.Errorf("writing the configuration: %w", err)
	}
	err = configTemplate.Execute(f, map[string]any{
		"Ports": chosen, "ReleaseKey": p.releasePublicKey(), "Provider": p.backend(), "Origin": logOrigin, "Witnesses": witnesses,
	})
	if err := errors.Join(err, f.Close()); err != nil {
		return ports{}, fmt.Errorf("writing the configuration: %w", err)
	}
	b, err := json.Marshal(chosen)
	if err != nil {
		return ports{}, fmt.Errorf("writing %s: %w", path, err)
	}
	return chosen, os.WriteFile(path, b, 0o600)
}

// choose asks the kernel for free ports where there is none yet, all at once so
// that they differ.
func (p *ports) choose() error {
	all := []*int{&p.Admin, &p.Webhooks, &p.Agents, &p.Connect, &p.Transparency}
	for n := range p.Witnesses {
		all = append(all, &p.Witnesses[n])
	}
	for _, port := range all {
		if *port != 0 {
			continue
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return fmt.Errorf("finding a free port: %w", err)
		}
		defer l.Close() //nolint:errcheck // it never served
		*port = l.Addr().(*net.TCPAddr).Port
	}
	return nil
}

// startControl starts shed serve, waits until it answers, and starts the
// witnesses of its log. env is added to
// its environment.
func startControl(ctx context.Context, p place, chosen ports, env ...string) (*control, error) {
	log, err := os.OpenFile(p.serveLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the control plane's log: %w", err)
	}
	defer log.Close() //nolint:errcheck // the child has its own
	c := &control{place: p, ports: chosen, ended: make(chan struct{})}
	c.cmd = exec.Command(p.program("shed"), "--state", p.root, "serve", "--config", p.config(), "--power-off-on-exit")
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.Env = append(p.environment(), env...)
	// A Ctrl-C is for us to pass on, in order.
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	if err := c.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting the control plane: %w", err)
	}
	go func() {
		c.cmd.Wait() //nolint:errcheck // its exit status is read from ProcessState
		c.endWitnesses()
		close(c.ended)
	}()
	err = c.waitReady(ctx)
	if err == nil {
		err = c.startWitnesses(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, c.stop())
	}
	return c, nil
}

func (c *control) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	url := fmt.Sprintf("http://127.0.0.1:%d/healthz", c.ports.Admin)
	return poll(ctx, 50*time.Millisecond, func() (bool, error) {
		select {
		case <-c.ended:
			return false, fmt.Errorf("the control plane ended: %s; its log is %s:\n%s", c.cmd.ProcessState, c.place.serveLog(), tail(c.place.serveLog()))
		default:
		}
		resp, err := http.Get(url)
		if err != nil {
			return false, nil //nolint:nilerr // it does not listen yet
		}
		resp.Body.Close() //nolint:errcheck // only the status is read
		return resp.StatusCode/100 == 2, nil
	})
}

// notes are what the provider has for its operator to know, from the control
// plane's log: that guests run under software emulation, and why.
func (c *control) notes() []string {
	b, err := os.ReadFile(c.place.serveLog())
	if err != nil {
		return nil
	}
	var notes []string
	for line := range bytes.Lines(b) {
		var entry struct {
			Msg   string   `json:"msg"`
			Notes []string `json:"notes"`
		}
		if json.Unmarshal(line, &entry) == nil && entry.Msg == "provider runs" {
			notes = entry.Notes
		}
	}
	return notes
}

// stopWait is longer than the machines' grace.
const stopWait = 20 * time.Second

// stop powers the machines off and ends the control plane.
func (c *control) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stopping the control plane: %w", err)
	}
	select {
	case <-c.ended:
		return nil
	case <-time.After(stopWait):
		return errors.Join(errors.New("the control plane did not stop in time"), c.cmd.Process.Kill())
	}
}

// poll asks until done, ctx's end or an error.
func poll(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// tail is the end of a log.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-2000):])
}
