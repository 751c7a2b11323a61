package toolshed

import (
	_ "embed"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/mount"
	"github.com/toolshed-cloud/shed/toolshed/page"
)

//go:embed home.html
var homeText string

var homePage = page.New("Home", "", homeText)

// Machine is what the agent says of the machine that it and the toolshed run in:
// text for its owner, which proves nothing.
type Machine struct {
	// Release is the image's version, Epoch its security counter, and
	// HardwareReports how many reports of the processor's go beside a quote of
	// the TPM's.
	Release, Epoch, HardwareReports string
}

// evidencePath is where the agent answers, before any payload, with a proof that
// is made for the connection and the nonce.
const evidencePath = "/.well-known/attestation?nonce="

type homeData struct {
	Version string
	Caller  *auth.Caller
	// Evidence is empty where there is no agent.
	Evidence string
	Machine  Machine
	APIs     []homeAPI
	Total    string
	Since    string
}

type homeAPI struct {
	Name, Page, Kept, Bytes string
	// Quota is empty for none.
	Quota          string
	Requests       int64
	Received, Sent string
}

// home is what runs and on what, what it keeps, and what went through it.
func (r *Root) home(req *http.Request) (any, error) {
	d := homeData{
		Version: Version, Caller: auth.FromContext(req.Context()), Machine: r.Machine,
		Since: r.started.UTC().Format(time.RFC3339),
	}
	if r.BehindAgent {
		var nonce [32]byte
		if _, err := io.ReadFull(r.Random, nonce[:]); err != nil {
			return nil, fmt.Errorf("drawing a nonce: %w", err)
		}
		d.Evidence = evidencePath + hex.EncodeToString(nonce[:])
	}
	var total int64
	for _, m := range r.mounts {
		a, bytes, err := homeOf(req, m)
		if err != nil {
			return nil, err
		}
		total += bytes
		d.APIs = append(d.APIs, a)
	}
	d.Total = inUnits(total)
	return d, nil
}

func homeOf(req *http.Request, m *mount.Mount) (a homeAPI, bytes int64, err error) {
	t := m.Traffic()
	a = homeAPI{Name: m.Name, Page: m.PagePath(), Requests: t.Requests, Received: inUnits(t.Received), Sent: inUnits(t.Sent)}
	reporter := m.Reporter()
	if reporter == nil {
		return a, 0, nil
	}
	u, err := reporter.Usage(req.Context())
	if err != nil {
		return a, 0, fmt.Errorf("asking %s what it keeps: %w", m.Name, err)
	}
	a.Kept, a.Bytes = fmt.Sprintf("%d %s", u.Count, u.Of), inUnits(u.Bytes)
	if u.Quota > 0 {
		a.Quota = inUnits(u.Quota)
	}
	return a, u.Bytes, nil
}

// inUnits is a number of bytes for people.
func inUnits(n int64) string {
	value, unit := float64(n), "B"
	for _, next := range []string{"KiB", "MiB", "GiB", "TiB"} {
		if value < 1024 {
			break
		}
		value, unit = value/1024, next
	}
	if unit == "B" {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", value, unit)
}
