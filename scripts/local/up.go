package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest/statefile"
)

// local is one run on its way.
type local struct {
	place    place
	control  *control
	proxy    *proxy
	instance instance
	// appraisal is the owner's table.
	appraisal string
	// readyIn is from the webhook to ready, verifyIn the owner's own
	// verification.
	readyIn, verifyIn time.Duration
}

func up(ctx context.Context, p place) error {
	release, err := p.lock()
	if err != nil {
		return err
	}
	defer release()
	l := &local{place: p}
	if err := l.bringUp(ctx); err != nil {
		return errors.Join(err, l.stop())
	}
	l.show()
	select {
	case <-ctx.Done():
	case <-l.control.ended:
		return errors.Join(fmt.Errorf("the control plane ended: %s; make up brings it back, make down powers off what still runs; its log is %s",
			l.control.cmd.ProcessState, l.place.serveLog()), l.stop())
	}
	fmt.Println("\nstopping; the data stays")
	return l.stop()
}

// bringUp is the main job, step by step.
func (l *local) bringUp(ctx context.Context) error {
	p := l.place
	var chosen ports
	if err := p.make(); err != nil {
		return err
	}
	steps := []struct {
		name string
		run  func() error
	}{
		{"build and sign the image", func() error { return p.buildRelease(ctx) }},
		{"start the control plane and two witnesses", func() (err error) {
			if chosen, err = p.configure(ctx); err != nil {
				return err
			}
			l.control, err = startControl(ctx, p, chosen)
			return err
		}},
		{"add the release, to the log too", func() error { return p.shed(ctx, nil, "release", "add", p.release()) }},
		{"sign up " + demoUser + ", by webhook", func() error {
			l.readyIn = -time.Duration(time.Now().UnixNano())
			return l.control.signUp(ctx, demoUser)
		}},
		{"boot her machine until it has proved itself", func() (err error) {
			l.instance, err = l.control.waitInstance(ctx, demoUser)
			l.readyIn += time.Duration(time.Now().UnixNano())
			return err
		}},
		{"verify it, as its owner", func() (err error) {
			started := time.Now()
			if err := p.handOver(); err != nil {
				return err
			}
			_, err = p.owner(ctx, "verify", l.instance.URL)
			l.verifyIn = time.Since(started)
			return err
		}},
		{"claim it", func() (err error) {
			l.appraisal, err = p.owner(ctx, "claim", l.instance.URL)
			return err
		}},
		{"ask the toolshed inside", func() (err error) {
			if l.proxy, err = p.connect(ctx, l.instance.URL, chosen.Connect); err != nil {
				return err
			}
			return l.greet(ctx)
		}},
	}
	for _, s := range steps {
		started := l.control != nil
		if err := step(s.name, s.run); err != nil {
			return err
		}
		if !started && l.control != nil {
			for _, note := range l.control.notes() {
				fmt.Println("  " + note)
			}
		}
	}
	return nil
}

// greet writes one value and reads it back.
func (l *local) greet(ctx context.Context) error {
	const path, text = "/api/kv/greeting", "hello from your own machine"
	if _, err := l.proxy.ask(ctx, "PUT", path, text); err != nil {
		return err
	}
	got, err := l.proxy.ask(ctx, "GET", path, "")
	if err != nil {
		return err
	}
	if got != text {
		return fmt.Errorf("the toolshed answered %q, want %q", got, text)
	}
	return nil
}

func (l *local) show() {
	fmt.Printf("\n%s's machine is ready: %s\n\n%s\n%s", demoUser, l.instance.URL, l.appraisal, l.next())
}

// next are commands that work as they stand, from the directory that this was
// started in.
func (l *local) next() string {
	shed, stop := "bin/shed", ""
	if root := relative(l.place.root); root != defaultState {
		shed += " --state " + quoted(root)
		stop = " STATE=" + quoted(root)
	}
	return fmt.Sprintf(`Try next:
  curl %s/api/kv/greeting
  %[2]s instance list
  %[2]s verify %[3]s
  %[2]s logs %[3]s
  %[2]s instance console %[4]s
Ctrl-C or make down%[5]s stops it and keeps the data; make clean%[5]s destroys it.
`, l.proxy.URL, shed, l.instance.URL, demoUser, stop)
}

// quoted is a word for a shell.
func quoted(word string) string {
	if regexp.MustCompile(`^[\w./@:+-]+$`).MatchString(word) {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func relative(path string) string {
	if wd, err := os.Getwd(); err == nil {
		if rest, ok := strings.CutPrefix(path, wd+"/"); ok {
			return rest
		}
	}
	return path
}

// stop ends what was started, last first.
func (l *local) stop() error {
	var err error
	if l.proxy != nil {
		err = l.proxy.stop()
		l.proxy = nil
	}
	if l.control != nil {
		err = errors.Join(err, l.control.stop())
		l.control = nil
	}
	return err
}

// lock makes this the only run on the place and says so in its pid file.
func (p place) lock() (release func(), err error) {
	if err := p.make(); err != nil {
		return nil, err
	}
	unlock, err := statefile.TryLock(p.pidFile())
	if errors.Is(err, statefile.ErrLocked) {
		return nil, fmt.Errorf("%s runs already\nhint: make down stops it (with the same STATE)", relative(p.root))
	}
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(p.pidFile(), []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", p.root, err), unlock())
	}
	return func() { unlock() }, nil //nolint:errcheck // it goes with the process
}
