package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/attest/board"
	"github.com/toolshed-cloud/shed/orchestrator/adminclient"
)

func (p place) releasePublicKey() string { return p.in("releases", "release.pub") }

// ekRoot is the certificate of the CA of the first host's TPMs, or the control
// plane's own where a cloud names their keys.
func (p place) ekRoot() string {
	if p.cloud != nil {
		return p.in("control", "ek-named-by-"+p.cloud.Name+".pem")
	}
	if len(p.hosts) > 0 {
		return p.hosts[0].Root()
	}
	return p.in("provider", "qemu", "ca", "ek-root.pem")
}

// shed runs one command of the operator's and decodes its JSON into out.
func (p place) shed(ctx context.Context, out any, args ...string) error {
	cmd := exec.CommandContext(ctx, p.program("shed"), append([]string{"--state", p.root, "--json"}, args...)...)
	return decode(cmd, out)
}

// decode runs a command and decodes what it prints; its complaint is the
// error.
func decode(cmd *exec.Cmd, out any) error {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	b, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("%w\n%s", err, complaint(stderr.Bytes()))
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(b, out); err != nil {
		return fmt.Errorf("reading the answer: %w", err)
	}
	return nil
}

// localShape is that of every machine of a local run: small, since several run
// side by side.
var localShape = board.Shape{VCPUs: 2, MemoryBytes: 512 << 20}

// complaint is what a program said on standard error, for people, where its
// last line is an error for programs.
func complaint(stderr []byte) string {
	text := strings.TrimSpace(string(stderr))
	before, last := "", text
	if n := strings.LastIndexByte(text, '\n'); n >= 0 {
		before, last = text[:n+1], text[n+1:]
	}
	var e struct {
		Error string `json:"error"`
		Hint  string `json:"hint"`
	}
	if json.Unmarshal([]byte(last), &e) != nil || e.Error == "" {
		return text
	}
	said := before + e.Error
	if e.Hint != "" {
		said += "\nhint: " + e.Hint
	}
	return said
}

// buildRelease builds the image, for machines with Secure Boot on unless it is a
// plain place, and signs it with keys for development that are labelled so or
// made for this run.
func (p place) buildRelease(ctx context.Context) error {
	if p.plain {
		return p.buildAndSign(ctx, p.release())
	}
	if err := p.shed(ctx, nil, "image", "keys", p.secureBootKeys()); err != nil {
		return err
	}
	return p.buildAndSign(ctx, p.release(), "--secure-boot-keys", p.secureBootKeys())
}

// buildAndSign builds a release into a directory and signs it; with is for
// building and for signing.
func (p place) buildAndSign(ctx context.Context, dir string, with ...string) error {
	build := append([]string{"image", "build", "--output", dir, "--cache", p.cache,
		"--arch", cmp.Or(p.architecture, board.AMD64), "--agent", p.measured("shed-agent"), "--toolshed", p.measured("toolshed"),
		"--shapes", p.machineShape().String()}, with...)
	if interactive() {
		fmt.Println()
	}
	if err := p.buildLocked(ctx, build); err != nil {
		return err
	}
	return p.shed(ctx, nil, append([]string{"image", "sign", "--key", p.releaseKey(), "--generate-key",
		"--public-key", p.releasePublicKey(), dir}, with...)...)
}

// demoUser is who signs up.
const demoUser = "ada"

// signUp posts the signed webhook, as a signup system would.
func (c *control) signUp(ctx context.Context, user string) error {
	return c.place.shed(ctx, nil, "webhook", "send", "--type", "user.created", "--user", user)
}

// instance is what the operator sees of one.
type instance = adminclient.Instance

// instances asks the admin API itself: a program started several times a second
// would take from the machine what it waits for.
func (p place) instances(ctx context.Context) ([]instance, error) {
	known, err := adminclient.ReadAddresses(p.in("control"))
	if err != nil {
		return nil, err
	}
	token, err := adminclient.ReadToken(p.in("control", adminclient.TokenFile))
	if err != nil {
		return nil, err
	}
	c := &adminclient.Client{Base: "http://" + known.Admin, Token: token, Timeout: answerTimeout}
	return c.Instances(ctx, false)
}

// answerTimeout is how long the control plane may take to answer.
const answerTimeout = 30 * time.Second

// usualBoot is what a cold boot takes under software emulation; it only scales
// a progress bar.
const usualBoot = 20 * time.Second

// waitInstance waits until the user's instance is ready.
func (c *control) waitInstance(ctx context.Context, user string) (instance, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	w := newWaiting("boot", usualBoot)
	defer w.done()
	var found instance
	err := poll(ctx, 50*time.Millisecond, func() (bool, error) {
		all, err := c.place.instances(ctx)
		if err != nil {
			return false, err
		}
		for _, i := range all {
			if i.UserID != user {
				continue
			}
			found = i
			w.tell(i.State)
			switch i.State {
			case "ready":
				return true, nil
			case "quarantined", "failed":
				return false, fmt.Errorf("instance %s is %s: %s", i.ID, i.State, i.Reason)
			}
		}
		return false, nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		err = fmt.Errorf("instance %s is still %s: %s", found.ID, found.State, found.Reason)
	}
	return found, err
}
