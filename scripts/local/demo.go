package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

// report is demo's last line.
type report struct {
	Instance        string `json:"instance"`
	Release         string `json:"release"`
	SignupToReadyMS int64  `json:"signup_to_ready_ms"`
	BootMS          int64  `json:"boot_ms"`
	VerifyMS        int64  `json:"verify_ms"`
	ImageBytes      int64  `json:"image_bytes"`
	Tier            string `json:"tier"`
	Appraisal       string `json:"appraisal"`
}

// alone runs f on a fresh state of its own, which is gone when it returns.
func alone(p place, f func(*local) error) error {
	release, err := p.lock()
	if err != nil {
		return err
	}
	defer release()
	l := &local{place: p}
	err = errors.Join(f(l), l.stop())
	if err != nil {
		err = fmt.Errorf("%w\nthe control plane's log ends:\n%s%s", err, tail(p.serveLog()), p.consoles())
	}
	return errors.Join(err, p.remove())
}

// consoles are the ends of what each machine's console shows.
func (p place) consoles() string {
	// The pattern is well formed.
	logs, _ := filepath.Glob(filepath.Join(p.provider(), "machines", "*", "console.log")) //nolint:errcheck // see above
	var b strings.Builder
	for _, log := range logs {
		fmt.Fprintf(&b, "\nthe console of machine %s ends:\n%s", filepath.Base(filepath.Dir(log)), tail(log))
	}
	return b.String()
}

// demo is the main job in one shot on a provider, ending with delete.
func demo(ctx context.Context, p place, provider string) (err error) {
	if provider == onLibvirt {
		stop, failed := p.startHosts(ctx)
		if failed != nil {
			return errors.Join(failed, p.remove())
		}
		defer func() { err = errors.Join(err, stop(), p.remove()) }()
	}
	var r report
	err = alone(p, func(l *local) (err error) {
		r, err = l.demo(ctx)
		return err
	})
	if err != nil {
		return err
	}
	b, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	fmt.Println(string(b))
	return nil
}

func (l *local) demo(ctx context.Context) (report, error) {
	if err := l.bringUp(ctx); err != nil {
		return report{}, err
	}
	r := report{
		Instance: l.instance.ID, Release: l.instance.Release,
		SignupToReadyMS: l.readyIn.Milliseconds(), VerifyMS: l.verifyIn.Milliseconds(),
	}
	fmt.Printf("\n%s\n", l.appraisal)
	if err := l.fill(ctx, &r); err != nil {
		return report{}, err
	}
	err := step("delete the instance", func() error {
		return l.place.shed(ctx, nil, "instance", "delete", "--wait", l.instance.ID)
	})
	if err != nil {
		return report{}, err
	}
	return r, l.nothingLeft()
}

// fill adds what the owner's client and the history say.
func (l *local) fill(ctx context.Context, r *report) error {
	out, err := l.place.owner(ctx, "--json", "verify", l.instance.URL)
	if err != nil {
		return err
	}
	var a struct {
		Status string `json:"status"`
		Tiers  struct {
			Memory   string `json:"memory"`
			Identity string `json:"identity"`
			Storage  string `json:"storage"`
		} `json:"tiers"`
	}
	if err := json.Unmarshal([]byte(out), &a); err != nil {
		return fmt.Errorf("reading the appraisal: %w", err)
	}
	r.Appraisal, r.Tier = a.Status, a.Tiers.Identity
	uki, err := os.Stat(filepath.Join(l.place.release(), "uki.efi"))
	if err != nil {
		return fmt.Errorf("measuring the image: %w", err)
	}
	r.ImageBytes = uki.Size()
	boot, err := l.place.bootTime(ctx, l.instance.ID)
	r.BootMS = boot.Milliseconds()
	return err
}

// bootTime is from the provider's acceptance to the machine's introduction, as
// the control plane's history has it.
func (p place) bootTime(ctx context.Context, id string) (time.Duration, error) {
	out, err := exec.CommandContext(ctx, p.program("shed"), "--state", p.root, "--json", "events", "--instance", id).Output()
	if err != nil {
		return 0, fmt.Errorf("reading the history: %w", err)
	}
	at := map[string]time.Time{}
	for history := json.NewDecoder(bytes.NewReader(out)); ; {
		var e struct {
			At time.Time `json:"at"`
			To string    `json:"to"`
		}
		if err := history.Decode(&e); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return 0, fmt.Errorf("reading the history: %w", err)
		}
		at[e.To] = e.At
	}
	if at["booting"].IsZero() || at["enrolling"].IsZero() {
		return 0, errors.New("the history shows no boot")
	}
	return at["enrolling"].Sub(at["booting"]), nil
}

// nothingLeft checks that the deletion left nothing at the provider.
func (l *local) nothingLeft() error {
	for _, h := range l.place.hosts {
		left, err := filepath.Glob(filepath.Join(h.PoolDir(), "shed.*.data"))
		if err != nil || len(left) > 0 {
			return errors.Join(fmt.Errorf("left on %s: %v", h.URI, left), err)
		}
	}
	left, err := os.ReadDir(filepath.Join(l.place.provider(), "machines"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("looking for leftovers: %w", err)
	}
	if len(left) > 0 {
		return fmt.Errorf("%d machines are left at the provider", len(left))
	}
	return nil
}
