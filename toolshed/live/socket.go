package live

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/coder/websocket"

	"github.com/toolshed-cloud/shed/toolshed/auth"
	"github.com/toolshed-cloud/shed/toolshed/problem"
)

// maxCommandBytes bounds what a client says at once.
const maxCommandBytes = MaxDataBytes + 16<<10

// command is what a client says over a WebSocket.
type command struct {
	// Ref is answered with what came of the command.
	Ref         string          `json:"ref"`
	Subscribe   []string        `json:"subscribe"`
	After       string          `json:"after"`
	Unsubscribe []string        `json:"unsubscribe"`
	Publish     *publishCommand `json:"publish"`
}

type publishCommand struct {
	Topic string          `json:"topic"`
	Data  json.RawMessage `json:"data"`
}

// reply is what comes of a command.
type reply struct {
	Kind  string           `json:"kind"`
	Ref   string           `json:"ref,omitempty"`
	ID    string           `json:"id,omitempty"`
	Error *problem.Problem `json:"error,omitempty"`
}

var errCommand = errors.New("want one JSON object with subscribe, unsubscribe or publish")

func parseCommand(b []byte) (c command, err error) {
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		return c, fmt.Errorf("%w: %w", errCommand, err)
	}
	if d.More() || len(c.Ref) > 64 || c.Subscribe == nil && c.Unsubscribe == nil && c.Publish == nil {
		return c, errCommand
	}
	if c.Publish != nil && len(c.Publish.Data) == 0 {
		return c, fmt.Errorf("%w: publish.data is missing", errCommand)
	}
	return c, nil
}

// socket is a listener that also publishes.
func (h handlers) socket(w http.ResponseWriter, r *http.Request) {
	a, refused := parseAsked(r)
	if refused != nil {
		refused.Write(w)
		return
	}
	l := h.Join(a.as)
	defer l.Leave()
	if err := l.Subscribe(a.topics, a.after); err != nil {
		refusal(err).Write(w)
		return
	}
	c, err := websocket.Accept(w, r, &websocket.AcceptOptions{CompressionMode: websocket.CompressionDisabled})
	if err != nil {
		// It has answered.
		return
	}
	defer c.CloseNow() //nolint:errcheck // it is closed with a reason before, where there is one
	c.SetReadLimit(maxCommandBytes)
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	s := &session{handlers: h, conn: c, listener: l, said: make(chan reply, 1)}
	go func() { cancel(s.listen(ctx)) }()
	s.end(s.speak(ctx))
}

// session is one WebSocket. One goroutine reads, one writes.
type session struct {
	handlers
	conn     *websocket.Conn
	listener *Listener
	said     chan reply
}

// listen does what the client says, until it goes.
func (s *session) listen(ctx context.Context) error {
	for {
		kind, b, err := s.conn.Read(ctx)
		if err != nil {
			return err
		}
		answer := reply{Kind: "reply"}
		c, err := parseCommand(b)
		if kind != websocket.MessageText {
			err = errCommand
		}
		if err == nil {
			answer.Ref = c.Ref
			answer.ID, err = s.do(ctx, c)
		}
		if err != nil {
			answer.Error = ofCommand(err)
		}
		select {
		case s.said <- answer:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

func ofCommand(err error) *problem.Problem {
	var p *problem.Problem
	switch {
	case errors.As(err, &p):
		return p
	case errors.Is(err, errCommand):
		return problem.Of(http.StatusUnprocessableEntity, err.Error())
	}
	return refusal(err)
}

func (s *session) do(ctx context.Context, c command) (id string, err error) {
	if refused := mayListen(ctx, c.Subscribe); refused != nil {
		return "", refused
	}
	s.listener.Unsubscribe(c.Unsubscribe)
	if err := s.listener.Subscribe(c.Subscribe, c.After); err != nil {
		return "", err
	}
	if c.Publish == nil {
		return "", nil
	}
	if refused := auth.Check(ctx, ScopeWrite); refused != nil {
		return "", refused
	}
	e, err := s.byCaller(c.Publish.Topic, c.Publish.Data)
	return e.ID, err
}

// speak writes until the client goes, the server is about to, or it is cut.
func (s *session) speak(ctx context.Context) error {
	beat := time.NewTicker(beatEvery)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-s.listener.Cut():
			return ErrSlow
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-s.listener.Behind():
			err = s.all(ctx, s.listener.Missed())
		case e := <-s.listener.Events():
			err = s.all(ctx, append(s.listener.Missed(), e))
		case said := <-s.said:
			err = s.write(ctx, said)
		case <-beat.C:
			err = s.ping(ctx)
		}
		if err != nil {
			return err
		}
	}
}

func (s *session) all(ctx context.Context, events []Event) error {
	for _, e := range events {
		if err := s.write(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

func (s *session) write(ctx context.Context, v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return s.conn.Write(ctx, websocket.MessageText, b)
}

func (s *session) ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, writeTime)
	defer cancel()
	return s.conn.Ping(ctx)
}

// end says why the connection ends.
func (s *session) end(err error) {
	status, reason := websocket.StatusGoingAway, "the toolshed stops"
	switch {
	case errors.Is(err, ErrSlow):
		status, reason = websocket.StatusTryAgainLater, ErrSlow.Error()
	case websocket.CloseStatus(err) != -1:
		return
	}
	// A client that is gone cannot be told.
	_ = s.conn.Close(status, reason)
}
