// Package plugin runs a provider as a process of its own and speaks the
// provider contract with it, on either side of the wire.
//
// Invariants: a program runs only when its bytes have the checksum that the
// caller pinned, if it pinned one; it inherits nothing of the host's environment; both ends are
// authenticated by certificates made for this one process; an error arrives as
// the *providers.Error that the plugin returned; no call waits for ever, and a
// plugin that hangs is killed; and neither process survives the other by more
// than a few seconds, while machines survive both.
package plugin

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/toolshed-cloud/shed/attest"
	"github.com/toolshed-cloud/shed/providers"
)

// Options say which plugin to run and how.
type Options struct {
	// Name is the provider's name; Info must answer the same one.
	Name string
	// Path is the program, SHA256 what it must hold to be started; zero where
	// nobody vouches for it but whoever may write there.
	Path   string
	SHA256 attest.Digest
	// RuntimeDir holds the plugin's temporary directory with its socket: its
	// path must be short. Empty is the system's.
	RuntimeDir string
	// Env is the plugin's whole environment besides PATH and TMPDIR, as
	// KEY=value.
	Env []string
	// Backoff is the pause before a plugin that died is started again; it
	// doubles up to BackoffLimit. Zero is 100 ms and 30 s.
	Backoff, BackoffLimit time.Duration
	// StartTimeout bounds one start. Zero is 10 s.
	StartTimeout time.Duration
	// CallTimeout bounds one call, but for those that stream: the contract has
	// calls return when the cloud has accepted. Zero is 1 min.
	CallTimeout time.Duration
	Log         *zap.Logger
}

func (o Options) withDefaults() (Options, error) {
	if o.Name == "" || o.Path == "" {
		return o, fmt.Errorf("opening a plugin: name and path are needed")
	}
	path, err := filepath.Abs(o.Path)
	if err != nil {
		return o, fmt.Errorf("opening plugin %s: %w", o.Name, err)
	}
	o.Path = path
	if o.Backoff <= 0 {
		o.Backoff = 100 * time.Millisecond
	}
	if o.BackoffLimit < o.Backoff {
		o.BackoffLimit = max(o.Backoff, 30*time.Second)
	}
	if o.StartTimeout <= 0 {
		o.StartTimeout = 10 * time.Second
	}
	if o.CallTimeout <= 0 {
		o.CallTimeout = time.Minute
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	return o, nil
}

// process is one run of the plugin's program.
type process struct {
	*client
	host    *goplugin.Client
	cmd     *exec.Cmd
	pid     int
	tempDir string
	// gone is closed once the program has let go of its end of the lifeline,
	// which it does by dying alone.
	gone chan struct{}
}

// start runs the program and checks that it speaks our contract.
func start(ctx context.Context, opts Options) (*process, error) {
	tempDir, err := os.MkdirTemp(opts.RuntimeDir, tempPrefix)
	if err != nil {
		return nil, fmt.Errorf("making the plugin's temporary directory: %w", err)
	}
	ours, theirs, err := lifeline()
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(tempDir))
	}
	p := &process{cmd: command(opts, tempDir, theirs), tempDir: tempDir, gone: make(chan struct{})}
	p.host = goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  handshake,
		Plugins:          goplugin.PluginSet{dispensed: &bridge{}},
		Cmd:              p.cmd,
		SecureConfig:     pinned(opts.SHA256),
		SkipHostEnv:      true,
		AutoMTLS:         true,
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		StartTimeout:     opts.StartTimeout,
		Logger:           HCLogger(opts.Log),
		GRPCDialOptions:  dialOptions(),
	})
	err = p.connect()
	// The program holds its own copy by now; ours would keep the lifeline
	// open after its death.
	theirs.Close()
	go p.watch(ours)
	if err == nil {
		err = p.check(ctx, opts)
	}
	if err != nil {
		return nil, fmt.Errorf("starting plugin %s: %w", opts.Name, errors.Join(err, p.stop()))
	}
	return p, nil
}

// pinned has the program's bytes checked before it runs.
func pinned(sum attest.Digest) *goplugin.SecureConfig {
	if sum.IsZero() {
		return nil
	}
	return &goplugin.SecureConfig{Checksum: sum[:], Hash: sha256.New()}
}

func command(opts Options, tempDir string, lifeline *os.File) *exec.Cmd {
	cmd := exec.Command(opts.Path)
	cmd.Env = append([]string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"TMPDIR=" + tempDir,
		lifelineEnv + "=" + strconv.Itoa(3),
	}, opts.Env...)
	cmd.Dir = "/"
	cmd.ExtraFiles = []*os.File{lifeline}
	// A Ctrl-C at the terminal is the host's to handle, and not for the
	// tools that the plugin is running.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return cmd
}

// lifeline makes a pair of connected sockets: ours to listen for the plugin's
// death, theirs for it to listen for ours.
func lifeline() (ours net.Conn, theirs *os.File, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("making the plugin's lifeline: %w", err)
	}
	f := os.NewFile(uintptr(fds[0]), "lifeline")
	ours, err = net.FileConn(f)
	f.Close()
	theirs = os.NewFile(uintptr(fds[1]), "lifeline")
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("making the plugin's lifeline: %w", err)
	}
	return ours, theirs, nil
}

func (p *process) connect() error {
	conn, err := p.host.Client()
	if err != nil {
		return err
	}
	raw, err := conn.Dispense(dispensed)
	if err != nil {
		return err
	}
	c, ok := raw.(*client)
	if !ok {
		return errNoDispense
	}
	p.client = c
	p.pid, err = strconv.Atoi(p.host.ID())
	return err
}

func (p *process) watch(ours net.Conn) {
	defer close(p.gone)
	defer ours.Close()
	// A plugin never writes here: one that does is as good as dead.
	var b [1]byte
	_, _ = ours.Read(b[:])
}

func (p *process) check(ctx context.Context, opts Options) error {
	ctx, cancel := context.WithTimeout(ctx, opts.StartTimeout)
	defer cancel()
	info, err := p.Info(ctx)
	if err != nil {
		return err
	}
	if info.ContractVersion != providers.ContractVersion {
		return fmt.Errorf("it speaks contract version %d, want %d", info.ContractVersion, providers.ContractVersion)
	}
	if info.Name != opts.Name {
		return fmt.Errorf("it calls itself %q", info.Name)
	}
	return nil
}

// hung reports whether the program does not even say who it is.
func (p *process) hung(ctx context.Context, patience time.Duration) bool {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	_, err := p.Info(ctx)
	return err != nil && errors.Is(ctx.Err(), context.DeadlineExceeded)
}

// stopPatience is how long a program that was told to end may take. The library
// waits for the answer of one that hangs for ever.
const stopPatience = 3 * time.Second

// stop ends the program, by force when it does not end itself, and removes its
// temporary directory.
func (p *process) stop() error {
	overdue := time.AfterFunc(stopPatience, p.kill)
	defer overdue.Stop()
	p.host.Kill()
	if err := os.RemoveAll(p.tempDir); err != nil {
		return fmt.Errorf("removing the plugin's temporary directory: %w", err)
	}
	return nil
}

// kill ends the program by force. One that has ended is fine.
func (p *process) kill() {
	if p.cmd.Process != nil {
		_ = p.cmd.Process.Kill()
	}
}
