package url2text

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"time"
)

// Chromium runs a page's scripts in headless Chromium before it is read. The
// browser reaches the net by a proxy of ours alone, which goes where Dial goes.
type Chromium struct {
	// Path is the program.
	Path string
	// Dial connects to where may be connected to; its refusals are the
	// browser's too.
	Dial Dial
	// Timeout bounds one page.
	Timeout time.Duration
	// WithoutSandbox runs it as root, which Chromium's own sandbox cannot.
	WithoutSandbox bool
}

var _ Browser = (*Chromium)(nil)

// scriptTime is how long a page's scripts run, by the browser's own clock,
// which does not wait for what only waits.
const scriptTime = 8 * time.Second

// Page answers the page as the browser has it after its scripts. The address
// should be the one after redirects. Errors are ErrTooLarge, ErrBroken, and
// ctx's.
func (c *Chromium) Page(ctx context.Context, address *url.URL) ([]byte, *url.URL, error) {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	profile, err := os.MkdirTemp("", "toolshed-browser-")
	if err != nil {
		return nil, nil, fmt.Errorf("starting the browser: %w", err)
	}
	defer os.RemoveAll(profile) //nolint:errcheck // a temporary directory
	proxy, err := startProxy(c.Dial)
	if err != nil {
		return nil, nil, err
	}
	defer proxy.close()
	page, err := c.dump(ctx, profile, proxy.address(), address)
	return page, address, err
}

func (c *Chromium) dump(ctx context.Context, profile, proxy string, address *url.URL) ([]byte, error) {
	args := []string{
		"--headless=new", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--mute-audio", "--user-data-dir=" + profile,
		// The browser would go past a proxy for this machine's own addresses.
		"--proxy-server=http://" + proxy, "--proxy-bypass-list=<-loopback>",
		// Nor may it find its own way by UDP.
		"--disable-quic", "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
		fmt.Sprintf("--virtual-time-budget=%d", scriptTime.Milliseconds()), "--dump-dom", address.String(),
	}
	if c.WithoutSandbox {
		args = append([]string{"--no-sandbox"}, args...)
	}
	cmd := exec.CommandContext(ctx, c.Path, args...)
	cmd.Env = []string{"HOME=" + profile, "TMPDIR=" + profile, "PATH=/usr/bin:/bin"}
	cmd.WaitDelay = time.Second
	ownGroup(cmd)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		return nil, fmt.Errorf("starting the browser: %w", err)
	}
	page, readErr := io.ReadAll(io.LimitReader(out, MaxPageBytes+1))
	if len(page) > MaxPageBytes {
		return nil, errors.Join(fmt.Errorf("%w: more than %d bytes", ErrTooLarge, MaxPageBytes), cmd.Cancel(), cmd.Wait())
	}
	switch err := errors.Join(readErr, cmd.Wait()); {
	case ctx.Err() != nil:
		return nil, fmt.Errorf("running the page in a browser: %w", ctx.Err())
	case err != nil:
		return nil, fmt.Errorf("%w: the browser failed: %w", ErrBroken, err)
	case len(bytes.TrimSpace(page)) == 0:
		return nil, fmt.Errorf("%w: the browser has no page", ErrBroken)
	}
	return page, nil
}
