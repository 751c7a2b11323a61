// Package qmp speaks as much of QEMU's machine protocol as looking after a
// machine needs.
//
// Invariants: a guest can make QEMU say anything, so lines are capped and a
// connection serves one command at a time; every wait ends with its context.
package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"
)

// maxLine caps one message of QEMU's.
const maxLine = 64 << 10

// ErrProtocol says that the other end does not speak the protocol.
var ErrProtocol = errors.New("not the QEMU machine protocol")

// Conn is one connection to a monitor. It is not safe for concurrent use.
type Conn struct {
	conn  net.Conn
	lines *bufio.Scanner
}

// message is any of QEMU's: a greeting, an answer or an event.
type message struct {
	QMP    json.RawMessage `json:"QMP"`
	Return json.RawMessage `json:"return"`
	Error  *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// Dial connects and waits for QEMU's greeting, which comes once the machine
// has been put together.
func Dial(ctx context.Context, path string) (*Conn, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("connecting to the monitor: %w", err)
	}
	return Attach(ctx, conn)
}

// Attach is Dial on a connection that there is, which it closes where it fails.
func Attach(ctx context.Context, conn net.Conn) (*Conn, error) {
	c := &Conn{conn: conn, lines: bufio.NewScanner(conn)}
	c.lines.Buffer(make([]byte, 0, 4096), maxLine)
	if err := c.greet(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *Conn) greet(ctx context.Context) error {
	defer c.bound(ctx)()
	m, err := c.read()
	if err != nil {
		return err
	}
	if len(m.QMP) == 0 {
		return fmt.Errorf("%w: no greeting", ErrProtocol)
	}
	return c.Execute(ctx, "qmp_capabilities")
}

// Close ends the connection.
func (c *Conn) Close() error { return c.conn.Close() }

// Execute runs a command of whose answer nothing is wanted.
func (c *Conn) Execute(ctx context.Context, command string) error {
	return c.Call(ctx, command, nil, nil)
}

// Call runs a command with its arguments, which may be nil, and reads its
// answer, unless answer is nil. The error is QEMU's own where it refuses.
func (c *Conn) Call(ctx context.Context, command string, arguments, answer any) error {
	defer c.bound(ctx)()
	line, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("encoding %s: %w", command, err)
	}
	if _, err := c.conn.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("sending %s: %w", command, err)
	}
	for {
		m, err := c.read()
		switch {
		case err != nil:
			return fmt.Errorf("waiting for the answer to %s: %w", command, err)
		case m.Error != nil:
			return fmt.Errorf("%s: %s: %s", command, m.Error.Class, m.Error.Desc)
		case m.Return != nil && answer != nil:
			if err := json.Unmarshal(m.Return, answer); err != nil {
				return fmt.Errorf("%w: answer to %s: %w", ErrProtocol, command, err)
			}
			return nil
		case m.Return != nil:
			return nil
		}
	}
}

// resets are why QEMU ends in place of a reset, where it was told to (ShutdownCause in
// qapi/run-state.json): the guest's, and one asked for by this protocol.
var resets = []string{"guest-reset", "host-qmp-system-reset"}

// Shutdown waits until QEMU says that it ends, and whether that is in place of a
// reset. It reads past everything else. The error is net.ErrClosed where QEMU ended
// without saying so.
func (c *Conn) Shutdown(ctx context.Context) (reset bool, err error) {
	defer c.bound(ctx)()
	for {
		m, err := c.read()
		if err != nil {
			return false, err
		}
		if m.Event != "SHUTDOWN" {
			continue
		}
		var data struct {
			Reason string `json:"reason"`
		}
		if err := json.Unmarshal(m.Data, &data); err != nil {
			return false, fmt.Errorf("%w: why it ends: %w", ErrProtocol, err)
		}
		return slices.Contains(resets, data.Reason), nil
	}
}

// bound makes ctx's end the end of every read and write until the function it
// returns is called.
func (c *Conn) bound(ctx context.Context) func() {
	stop := context.AfterFunc(ctx, func() { _ = c.conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

func (c *Conn) read() (message, error) {
	if !c.lines.Scan() {
		if err := c.lines.Err(); err != nil {
			return message{}, fmt.Errorf("reading from the monitor: %w", err)
		}
		return message{}, net.ErrClosed
	}
	return parse(c.lines.Bytes())
}

func parse(line []byte) (message, error) {
	var m message
	if err := json.Unmarshal(line, &m); err != nil {
		return message{}, fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return m, nil
}
