package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/toolshed-cloud/shed/attest/client"
	"github.com/toolshed-cloud/shed/attest/problem"
	"github.com/toolshed-cloud/shed/cmd/internal/cli"
)

// trustLifetime is how long one verification is trusted, per request, where no
// policy says so.
const trustLifetime = 5 * time.Minute

func newConnectCommand() *cobra.Command {
	var flags clientFlags
	var listen string
	cmd := &cobra.Command{
		Use:   "connect URL",
		Short: "a local proxy to your machine, over attested connections",
		Long: `connect listens on loopback and passes what arrives there to the toolshed of
your machine at URL. Every connection to the machine is verified before it
carries a request, again every five minutes or as the policy says, and bears your token. It runs until
it is interrupted. Whatever runs on this computer can use it meanwhile.

What the machine does not answer itself is answered with a problem document: 503
where it was busy for as long as --timeout says, 403 where it is refused, 502
where it cannot be reached.
` + clientHelp,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := flags.open(cmd, args[0])
			if err != nil {
				return err
			}
			return c.explain(c.connect(cmd, listen, flags.timeout))
		},
	}
	flags.register(cmd)
	cmd.Flags().StringVar(&listen, "listen", "127.0.0.1:0", "loopback address to listen on; port 0 picks a free one")
	return cmd
}

func (c *relyingParty) connect(cmd *cobra.Command, listen string, timeout time.Duration) error {
	listener, err := listenLoopback(listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	transport, err := c.transport(cmd.Context(), timeout)
	if err != nil {
		return err
	}
	defer transport.Close()
	local := "http://" + listener.Addr().String()
	if cli.WantsJSON(cmd) {
		err = json.NewEncoder(cmd.OutOrStdout()).Encode(map[string]string{"url": local, "machine": c.machine.String()})
	} else {
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s is verified and yours\nopen %s, for example: curl %s/api/health\n", c.machine, local, local)
	}
	if err != nil {
		return err
	}
	server := localServer(listener.Addr().String(), c.proxy(patient{next: transport, timeout: timeout}))
	stop := context.AfterFunc(cmd.Context(), func() { server.Close() }) //nolint:errcheck // it ends either way
	defer stop()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serving: %w", err)
	}
	return nil
}

// localServer answers on loopback. Deno speaks HTTP/2 to its store without
// asking; to the machine all is HTTP/1.1.
func localServer(address string, next http.Handler) *http.Server {
	server := &http.Server{Handler: localOnly(address, next), ReadHeaderTimeout: 5 * time.Second, Protocols: new(http.Protocols)}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	return server
}

// transport verifies once, so that a refusal shows at once, and only ever
// talks to a machine that this owner has claimed.
func (c *relyingParty) transport(ctx context.Context, timeout time.Duration) (*client.Transport, error) {
	pin, err := c.claimed()
	if err != nil {
		return nil, err
	}
	keys, err := c.state.Keys(rand.Reader)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	session, err := c.trust.Connect(ctx, c.machine, pin)
	if err != nil {
		return nil, err
	}
	fresh := session.Pin()
	session.Close() //nolint:errcheck // the transport opens its own
	if err := c.state.Remember(c.machine.Host, fresh); err != nil {
		return nil, err
	}
	return &client.Transport{Trust: c.trust, Machine: c.machine, Pin: fresh, Keys: keys, Lifetime: c.lifetime}, nil
}

func (c *relyingParty) proxy(transport http.RoundTripper) http.Handler {
	return &httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "https", Host: c.machine.Host})
			if originName.MatchString(r.In.Host) {
				// The payload tells by the name which of its origins is meant.
				r.Out.Host = r.In.Host
			}
		},
		FlushInterval: -1,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, err error) {
			status, code := problemOf(err)
			if status == http.StatusServiceUnavailable {
				w.Header().Set("Retry-After", retryAfter)
			}
			problem.New(status, code, err.Error()).Write(w)
			log.Print(err)
		},
	}
}

// localOnly keeps web pages of others from using the proxy: neither by a
// foreign name for this address nor across origins, reads and WebSockets
// included. Only a link that is followed to it may come from elsewhere. What no
// payload could answer is answered here.
func localOnly(address string, next http.Handler) http.Handler {
	_, port, _ := net.SplitHostPort(address)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodConnect || r.Method == http.MethodTrace:
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
			problem.New(http.StatusMethodNotAllowed, "method-not-allowed", "this proxy leads to one machine and passes no "+r.Method).Write(w)
		case r.Host != address && r.Host != net.JoinHostPort("localhost", port) && !ownOrigin(r.Host, port):
			problem.New(http.StatusMisdirectedRequest, "misdirected", "this proxy answers to its own address alone").Write(w)
		case ofAnotherOrigin(r) || crossOrigin.Check(r) != nil:
			problem.New(http.StatusForbidden, "foreign-origin", "this proxy does not answer to pages of other origins").Write(w)
		case !strings.HasPrefix(r.URL.Path, "/"):
			problem.New(http.StatusNotFound, "not-found", "this proxy passes paths on, which begin with a slash").Write(w)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

var crossOrigin = http.NewCrossOriginProtection()

// originName is of an origin of its own for what the payload serves beside
// itself: names under localhost lead to this machine, whatever a name server
// says (RFC 6761, section 6.3), and to a browser each is another origin.
var originName = regexp.MustCompile(`^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){1,4}localhost:[0-9]{1,5}$`)

func ownOrigin(host, port string) bool {
	return originName.MatchString(host) && strings.HasSuffix(host, ":"+port)
}

// ofAnotherOrigin tells a page's request from another origin by what browsers send
// (Fetch Metadata; RFC 6454, section 7; RFC 6455, section 10.2).
func ofAnotherOrigin(r *http.Request) bool {
	if origin := r.Header.Get("Origin"); origin != "" && origin != "http://"+r.Host {
		return true
	}
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "none", "same-origin":
		return false
	default:
		return r.Header.Get("Sec-Fetch-Mode") != "navigate" || r.Header.Get("Sec-Fetch-Dest") != "document"
	}
}

func listenLoopback(address string) (net.Listener, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || (host != "localhost" && (ip == nil || !ip.IsLoopback())) {
		return nil, cli.Usage(fmt.Errorf("listen %q: want a loopback address with a port", address))
	}
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return nil, cli.Hinted(fmt.Errorf("listening on %s: %w", address, err), "another program may use the port: pick one with --listen")
	}
	return listener, nil
}
