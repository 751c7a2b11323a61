package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

// witnessCount is how many witnesses a local run has. They run on the
// operator's own machine, so they are labelled for what they are worth.
const (
	witnessCount = 2
	witnessLabel = "dev"
	logOrigin    = "shed.local/dev"
)

func (p place) logKey() string    { return p.in("releases", "log.vkey") }
func (p place) witnesses() string { return p.in("releases", "witnesses") }

func (p place) witnessDir(n int) string { return p.in("witness", fmt.Sprint(n+1)) }

// witnessKeys draws the witnesses' keys where there are none, and writes them
// down for clients.
func (p place) witnessKeys(ctx context.Context) ([]string, error) {
	keys := make([]string, witnessCount)
	list := ""
	for n := range keys {
		var drawn struct {
			Key string `json:"key"`
		}
		name := fmt.Sprintf("witness-%d.%s", n+1, logOrigin)
		if err := p.shed(ctx, &drawn, "witness", "key", "--dir", p.witnessDir(n), "--name", name); err != nil {
			return nil, err
		}
		keys[n] = drawn.Key
		list += drawn.Key + " " + witnessLabel + "\n"
	}
	return keys, os.WriteFile(p.witnesses(), []byte(list), 0o644)
}

// startWitnesses starts them, where there is a log, once the control plane can
// say what its key is. They end when it has.
func (c *control) startWitnesses(ctx context.Context) error {
	known, err := adminclient.ReadAddresses(c.place.in("control"))
	if err != nil || known.Transparency == "" {
		return err
	}
	if err := c.place.shed(ctx, nil, "log", "show", "--output", c.place.logKey()); err != nil {
		return err
	}
	for n, port := range c.ports.Witnesses {
		cmd := exec.Command(c.place.program("shed"), "witness", "--dir", c.place.witnessDir(n),
			"--listen", fmt.Sprintf("127.0.0.1:%d", port), "--log", c.place.logKey())
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
		if err := c.startWitness(cmd); err != nil {
			return err
		}
	}
	return nil
}

// startWitness starts one, unless the control plane has ended meanwhile, and
// waits until it listens.
func (c *control) startWitness(cmd *exec.Cmd) error {
	c.witnessMu.Lock()
	defer c.witnessMu.Unlock()
	if c.gone {
		return errors.New("the control plane ended")
	}
	cmd.Args = append(cmd.Args, "--json")
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("starting a witness: %w", err)
	}
	log, err := os.OpenFile(c.place.serveLog(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("starting a witness: %w", err)
	}
	defer log.Close() //nolint:errcheck // the child has its own
	cmd.Stderr = log
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting a witness: %w", err)
	}
	c.witnesses = append(c.witnesses, cmd)
	var started struct {
		Listen string `json:"listen"`
	}
	if err := json.NewDecoder(out).Decode(&started); err != nil {
		return fmt.Errorf("a witness did not start: its log is %s", c.place.serveLog())
	}
	return nil
}

// endWitnesses ends them and lets none be started.
func (c *control) endWitnesses() {
	c.witnessMu.Lock()
	defer c.witnessMu.Unlock()
	c.gone = true
	for _, cmd := range c.witnesses {
		cmd.Process.Signal(syscall.SIGTERM)                                 //nolint:errcheck // it may have ended
		late := time.AfterFunc(witnessGrace, func() { cmd.Process.Kill() }) //nolint:errcheck // as above
		cmd.Wait()                                                          //nolint:errcheck // its exit status says nothing
		late.Stop()
	}
	c.witnesses = nil
}

// witnessGrace is how long a witness may take to end.
const witnessGrace = 5 * time.Second
