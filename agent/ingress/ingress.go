// Package ingress is the machine's one inbound port: it proves what the machine
// is, takes the claim, and lets the owner's requests through to the payload.
//
// Invariants: TLS 1.3 with one key for each boot; every bound field comes from
// the live connection, a caller brings only a nonce; a request reaches the
// payload only with the owner's token for this very connection; the token goes
// no further, and the payload is told whose request it is by nobody else.
package ingress

import (
	"context"
	"crypto/tls"
	"encoding/hex"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"github.com/toolshed-cloud/shed/agent/seal"
	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/attest/channel"
	"github.com/toolshed-cloud/shed/attest/connlimit"
	"github.com/toolshed-cloud/shed/attest/ownership"
	"github.com/toolshed-cloud/shed/attest/problem"
)

// Machine is what the ingress opens on.
type Machine interface {
	// Evidence proves what the machine is on this channel. Many calls at once
	// cost little more than one.
	Evidence(ch attest.Channel, nonce attest.Nonce) ([]byte, error)
	// Activate opens a credential made for the machine's keys and answers it
	// for this channel alone.
	Activate(ch attest.Channel, blob, secret []byte) (attest.Digest, error)
	// Owner is the claim in force; nil on an unclaimed machine.
	Owner() *ownership.Claim
	// Left is what stands on the data disk; nil for nothing of ours.
	Left() (*seal.Left, error)
	// Recover opens what is left with the key that its owner brings, and makes
	// c the claim of a machine that has none. It refuses with
	// seal.ErrNothingLeft, seal.ErrForeign for another key, seal.ErrClaimed,
	// and attest.ErrRefused.
	Recover(ctx context.Context, c *ownership.Claim, id seal.VolumeID, key []byte) error
	// Trying says that the release is on trial, so that what the payload would do
	// may be undone.
	Trying() bool
	// ShownUpdate is what the owner is to know of the release that is offered, and
	// ApproveUpdate takes their word for it; the error matches attest.ErrRefused or
	// attest.ErrMalformed where it is not for that.
	ShownUpdate() (channel.Update, error)
	ApproveUpdate(approval []byte) error
	// Claim makes c the machine's claim. It refuses with seal.ErrClaimed or
	// seal.ErrNotBlank, and with attest.ErrRefused a claim that was made for
	// another machine.
	Claim(ctx context.Context, c *ownership.Claim) error
}

// Ingress serves one machine.
type Ingress struct {
	Machine Machine
	// Certificate holds the key of this boot and SPKI its DER
	// SubjectPublicKeyInfo.
	Certificate tls.Certificate
	SPKI        []byte
	// Payload reaches the toolshed.
	Payload http.RoundTripper
	// Output is the latest of what the toolshed printed.
	Output func() []byte
	Rand   io.Reader

	// busy bounds the requests that make the TPM work each by itself: anyone
	// may ask.
	busy chan struct{}
	// patience is strangerTimeout but in tests.
	patience time.Duration
}

// OwnerHeader tells the payload whose request it is: the owner's public key, in
// hex. What comes in under that name is dropped.
const OwnerHeader = "Shed-Owner"

// Limits on what a stranger can hold.
const (
	maxConnections = 256
	// maxPerSource leaves room for others beside one source, which can be a
	// gateway or a forwarded port with several clients behind it.
	maxPerSource   = 128
	maxBusy        = 8
	maxHeaderBytes = 16 << 10
	headerTimeout  = 5 * time.Second
	idleTimeout    = 2 * time.Minute
	// strangerTimeout bounds a whole request and its answer until it is known
	// to be the owner's.
	strangerTimeout = 15 * time.Second
)

// Serve answers on l until ctx ends, then lets requests under way finish for a
// moment. The error is http.ErrServerClosed where it ended with ctx.
func (d *Ingress) Serve(ctx context.Context, l net.Listener) error {
	d.busy = make(chan struct{}, maxBusy)
	if d.patience == 0 {
		d.patience = strangerTimeout
	}
	// net/http adds HTTP/2 to what the configuration offers: one session is
	// one request after another.
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	server := &http.Server{
		Handler:           d.withDeadline(d.handler()),
		Protocols:         protocols,
		TLSConfig:         channel.ServerConfig(d.Certificate),
		ReadHeaderTimeout: headerTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		ConnContext:       withSession,
		// A stranger's broken handshake is no news of ours.
		ErrorLog: log.New(io.Discard, "", 0),
	}
	stop := context.AfterFunc(ctx, func() {
		grace, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close() //nolint:errcheck // nothing is left to do with it
		}
	})
	defer stop()
	return server.ServeTLS(connlimit.Listen(l, maxConnections, maxPerSource), "", "")
}

func (d *Ingress) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+channel.EvidencePath, d.evidence)
	mux.HandleFunc("POST "+channel.ActivationPath, d.activation)
	mux.HandleFunc("GET "+channel.ClaimPath, d.claimNonce)
	mux.HandleFunc("POST "+channel.ClaimPath, d.claim)
	mux.Handle("GET "+channel.ClaimDocumentPath, d.requireOwner(http.HandlerFunc(d.claimDocument)))
	mux.HandleFunc("GET "+channel.RecoveryPath, d.ownerOnceClaimed(d.left))
	mux.HandleFunc("POST "+channel.RecoveryPath, d.ownerOnceClaimed(d.recover))
	mux.Handle("GET "+channel.UpdatePath, d.requireOwner(http.HandlerFunc(d.update)))
	mux.Handle("POST "+channel.UpdatePath, d.requireOwner(http.HandlerFunc(d.approve)))
	mux.Handle("GET "+channel.OutputPath, d.requireOwner(http.HandlerFunc(d.output)))
	// These paths are the machine's own, whatever the method.
	for path, methods := range map[string][]string{
		channel.EvidencePath: {"GET"}, channel.ActivationPath: {"POST"}, channel.ClaimPath: {"GET", "POST"},
		channel.ClaimDocumentPath: {"GET"}, channel.OutputPath: {"GET"}, channel.RecoveryPath: {"GET", "POST"},
		channel.UpdatePath: {"GET", "POST"},
	} {
		mux.HandleFunc(path, problem.MethodNotAllowed(methods...))
	}
	mux.Handle("/", d.requireOwner(d.unlessTrying(d.proxy())))
	return problem.Routes(mux)
}

// withDeadline gives a request only so long to arrive and its answer to be taken.
func (d *Ingress) withDeadline(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		setDeadlines(w, time.Now().Add(d.patience))
		next.ServeHTTP(w, r)
	})
}

// setDeadlines bounds the rest of a request; the zero time lifts the bound.
func setDeadlines(w http.ResponseWriter, t time.Time) {
	c := http.NewResponseController(w)
	c.SetReadDeadline(t)  //nolint:errcheck // net/http's own connections have deadlines
	c.SetWriteDeadline(t) //nolint:errcheck // as above
}

// withTPMSlot does what makes the TPM work, with nothing in it that waits for the
// network. It refuses rather than queues: a queue in front of a TPM that
// answers in milliseconds only hides a flood.
func (d *Ingress) withTPMSlot(w http.ResponseWriter, work func()) bool {
	select {
	case d.busy <- struct{}{}:
		defer func() { <-d.busy }()
		work()
		return true
	default:
		w.Header().Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "busy", "too many requests for the tpm at once")
		return false
	}
}

// requireOwner passes only requests that bear the owner's token for this connection.
func (d *Ingress) requireOwner(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		owner := d.Machine.Owner()
		if owner == nil {
			refuse(w, http.StatusForbidden, "unclaimed", "this machine has no owner yet: claim it first")
			return
		}
		ch, err := d.channel(r)
		if err == nil {
			err = ownership.CheckToken(owner.Body.Owner[:], r.Header.Get(ownership.Header), ch)
		}
		if err != nil {
			w.Header().Set("WWW-Authenticate", ownership.Scheme)
			refuse(w, http.StatusUnauthorized, "not-owner", "the request bears no token of the owner's for this connection")
			return
		}
		setDeadlines(w, time.Time{})
		next.ServeHTTP(w, r)
	})
}

func (d *Ingress) proxy() http.Handler {
	return &httputil.ReverseProxy{
		Transport: d.Payload,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: r.In.Host})
			r.Out.Host = r.In.Host
			r.Out.Header.Del(ownership.Header)
			// For who comes this far: the word of this machine, which nobody else
			// can give.
			r.Out.Header.Set(OwnerHeader, hex.EncodeToString(d.Machine.Owner().Body.Owner[:]))
		},
		ModifyResponse: refuseUnaskedSwitch,
		// Server-sent events have to pass at once.
		FlushInterval: -1,
		ErrorLog:      log.New(io.Discard, "", 0),
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) {
			w.Header().Set("Retry-After", "1")
			refuse(w, http.StatusBadGateway, "payload-down", "the toolshed does not answer")
		},
	}
}

// refuseUnaskedSwitch has the proxy close a connection on which the payload
// switches to a protocol that nobody asked for. Of itself it would leave it
// open.
func refuseUnaskedSwitch(r *http.Response) error {
	if asked := r.Request.Header.Get("Upgrade"); r.StatusCode == http.StatusSwitchingProtocols && !strings.EqualFold(asked, r.Header.Get("Upgrade")) {
		return fmt.Errorf("the payload switched protocols, and %q was asked for", asked)
	}
	return nil
}

func (d *Ingress) channel(r *http.Request) (attest.Channel, error) {
	return channel.FromState(*r.TLS, attest.RoleServe, d.SPKI)
}
