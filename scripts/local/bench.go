package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"time"

	"crypto/rand"

	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/ownership"
)

// benchRounds is how often each side is measured, in turn. The median counts.
const benchRounds = 3

// ratio is one measured value beside its floor.
type ratio struct {
	Value float64 `json:"value"`
	Floor float64 `json:"floor"`
	Ratio float64 `json:"ratio"`
}

// benchBoot measures from the webhook to the first authenticated byte from the
// toolshed, against the same image booted by plain QEMU to the agent's first
// answer. Making the TPM and the disks counts on both sides.
func benchBoot(ctx context.Context, p place) error {
	var signup, plain []time.Duration
	err := alone(p, func(l *local) (err error) {
		signup, plain, err = l.measure(ctx)
		return err
	})
	if err != nil {
		return err
	}
	return printBench("boot", map[string]ratio{"signup_cold": compare(signup, plain)})
}

func (l *local) measure(ctx context.Context) (signup, plain []time.Duration, err error) {
	if err := l.prepareBench(ctx); err != nil {
		return nil, nil, err
	}
	for round := range benchRounds {
		user := fmt.Sprintf("bench-%d", round)
		var bare *plainMachine
		err := step(fmt.Sprintf("round %d: signup to first authenticated byte", round+1), func() error {
			took, err := l.signupToFirstByte(ctx, user)
			signup = append(signup, took)
			return err
		})
		if err != nil {
			return nil, nil, err
		}
		if bare, err = l.place.copyMachine(); err != nil {
			return nil, nil, err
		}
		// The plain boot has the host to itself, as the signup's had.
		if err := l.place.shed(ctx, nil, "instance", "delete", "--wait", l.instance.ID); err != nil {
			return nil, nil, err
		}
		err = step(fmt.Sprintf("round %d: plain boot to first answer", round+1), func() error {
			boot, err := bare.boot(ctx, bare.place.release())
			plain = append(plain, boot.answered.Sub(boot.began))
			return err
		})
		if err != nil {
			return nil, nil, err
		}
	}
	return signup, plain, nil
}

func (l *local) prepareBench(ctx context.Context) error {
	if err := l.place.make(); err != nil {
		return err
	}
	if err := step("build and sign the image", func() error { return l.place.buildRelease(ctx) }); err != nil {
		return err
	}
	return step("start the control plane", func() error {
		chosen, err := l.place.configure(ctx)
		if err != nil {
			return err
		}
		if l.control, err = startControl(ctx, l.place, chosen); err != nil {
			return err
		}
		return errors.Join(l.place.shed(ctx, nil, "release", "add", l.place.release()), l.place.handOver())
	})
}

// signupToFirstByte does all that a signup system and an owner's client do:
// webhook, verification, claim and one request.
func (l *local) signupToFirstByte(ctx context.Context, user string) (time.Duration, error) {
	started := time.Now()
	if err := l.control.signUp(ctx, user); err != nil {
		return 0, err
	}
	var err error
	if l.instance, err = l.control.waitInstance(ctx, user); err != nil {
		return 0, err
	}
	home := client.ClientState{Dir: l.place.in("client")}
	trust, err := readTrust(home.Dir)
	if err != nil {
		return 0, err
	}
	keys, err := home.Keys(rand.Reader)
	if err != nil {
		return 0, err
	}
	machine, err := url.Parse(l.instance.URL)
	if err != nil {
		return 0, fmt.Errorf("reading the machine's url: %w", err)
	}
	session, err := trust.Connect(ctx, machine, nil)
	if err != nil {
		return 0, err
	}
	defer session.Close()
	if err := session.Claim(ctx, keys); err != nil {
		return 0, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, l.instance.URL+"/api/kv", nil)
	if err != nil {
		return 0, fmt.Errorf("asking the toolshed: %w", err)
	}
	req.Header.Set(ownership.Header, session.Token(keys))
	resp, err := session.Conn.RoundTrip(req)
	if err != nil {
		return 0, fmt.Errorf("asking the toolshed: %w", err)
	}
	defer resp.Body.Close()
	if _, err := resp.Body.Read(make([]byte, 1)); err != nil || resp.StatusCode != http.StatusOK {
		return 0, fmt.Errorf("asking the toolshed: %s: %w", resp.Status, err)
	}
	return time.Since(started), nil
}

func compare(value, floor []time.Duration) ratio {
	v, f := median(value).Seconds()*1000, median(floor).Seconds()*1000
	return ratio{Value: v, Floor: f, Ratio: v / f}
}

func median(all []time.Duration) time.Duration {
	sorted := slices.Sorted(slices.Values(all))
	return sorted[len(sorted)/2]
}

// printBench writes the table for people and the line for programs.
func printBench(name string, ratios map[string]ratio) error {
	units := map[string]string{}
	for name := range ratios {
		units[name] = "ms"
	}
	return printRatios(name, ratios, units)
}

func printRatios(name string, ratios map[string]ratio, units map[string]string) error {
	for _, name := range slices.Sorted(maps.Keys(ratios)) {
		r := ratios[name]
		fmt.Printf("%-20s %8.4g %s, floor %8.4g %s, ratio %.3f\n", name, r.Value, units[name], r.Floor, units[name], r.Ratio)
	}
	b, err := json.Marshal(map[string]any{
		"bench": name, "ratios": ratios,
		"machine": strings.Join([]string{runtime.GOOS, runtime.GOARCH, fmt.Sprintf("%d cores", runtime.NumCPU())}, " "),
	})
	if err != nil {
		return fmt.Errorf("reporting: %w", err)
	}
	fmt.Println(string(b))
	return nil
}
