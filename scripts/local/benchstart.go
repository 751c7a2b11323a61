package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"time"
)

// benchStart measures from the kernel's hand-over to the first answer by HTTPS: of
// the agent, and of a program that only gets an address and answers, on the same
// machine with the same image but for that program.
func (l *local) benchStart(ctx context.Context) (ratio, error) {
	least := l.place.in("releases", "least")
	if err := l.place.buildLeast(ctx, least); err != nil {
		return ratio{}, err
	}
	if err := l.control.signUp(ctx, demoUser); err != nil {
		return ratio{}, err
	}
	var err error
	if l.instance, err = l.control.waitInstance(ctx, demoUser); err != nil {
		return ratio{}, err
	}
	m, err := l.place.copyMachine()
	if err != nil {
		return ratio{}, err
	}
	if err := m.agentMemory(ctx); err != nil {
		return ratio{}, err
	}
	if err := l.place.shed(ctx, nil, "instance", "delete", "--wait", l.instance.ID); err != nil {
		return ratio{}, err
	}
	var agent, floor []time.Duration
	for range startRounds {
		for _, of := range []struct {
			release string
			took    *[]time.Duration
		}{{l.place.release(), &agent}, {least, &floor}} {
			boot, err := m.boot(ctx, of.release)
			if err != nil {
				return ratio{}, err
			}
			*of.took = append(*of.took, boot.answered.Sub(boot.started))
		}
	}
	return compare(agent, floor), nil
}

// startRounds is how often each side is measured, in turn, since what is measured is a
// fraction of a second. The median counts.
const startRounds = 9

// mostAgentMB bounds what the agent takes of a machine's memory.
const mostAgentMB = 30

var resident = regexp.MustCompile(`"msg":"healthy".*"resident_bytes":(\d+)`)

// agentMemory prints how much of the machine's memory its agent takes, by its own
// word, once the payload is healthy. More than its bound is an error.
func (m *plainMachine) agentMemory(ctx context.Context) error {
	var found []byte
	err := poll(ctx, 100*time.Millisecond, func() (bool, error) {
		b, err := m.console()
		if said := resident.FindSubmatch(b); said != nil {
			found = said[1]
		}
		return found != nil, ignoreAbsent(err)
	})
	if err != nil {
		return fmt.Errorf("waiting for the agent's memory: %w", err)
	}
	bytes, err := strconv.ParseInt(string(found), 10, 64)
	if err != nil {
		return fmt.Errorf("reading the agent's memory: %w", err)
	}
	fmt.Printf("  the agent: %.1f MB resident, at most %d\n", float64(bytes)/1e6, mostAgentMB)
	if bytes > mostAgentMB*1e6 {
		return fmt.Errorf("the agent takes %d bytes, at most %d MB", bytes, mostAgentMB)
	}
	return nil
}

// buildLeast is the release with the program in the agent's place.
func (p place) buildLeast(ctx context.Context, dir string) error {
	keys := []string{"--secure-boot-keys", p.secureBootKeys()}
	err := p.shed(ctx, nil, append([]string{"image", "build", "--output", dir, "--cache", p.cache, "--shapes", p.machineShape().String(),
		"--agent", p.program("benchguest"), "--toolshed", p.measured("toolshed")}, keys...)...)
	return errors.Join(err, p.shed(ctx, nil, append([]string{"image", "sign", "--key", p.releaseKey(), dir}, keys...)...))
}

func ignoreAbsent(err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
