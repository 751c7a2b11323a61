package standin

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"time"
)

// moto is a running moto server.
type moto struct {
	cmd    *exec.Cmd
	url    string
	client *http.Client
	// ended is closed once its output is.
	ended chan struct{}
}

// listening is how werkzeug says where it is.
var listening = regexp.MustCompile(`Running on (http://127\.0\.0\.1:[0-9]+)`)

const motoStart = time.Minute

func startMoto(ctx context.Context, python string) (*moto, error) {
	if python == "" {
		return nil, errors.New("no Python that moto is installed for: set SHED_MOTO (make's .cache/tools/moto/bin/python)")
	}
	m := &moto{client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}, ended: make(chan struct{})}
	m.cmd = exec.Command(python, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0")
	m.cmd.Env = append(os.Environ(), "MOTO_ENABLE_AMI_VALIDATION=true", "MOTO_EC2_ENABLE_INSTANCE_TYPE_VALIDATION=true",
		"MOTO_EC2_LOAD_DEFAULT_AMIS=false", "PYTHONUNBUFFERED=1")
	said, err := m.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := m.cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting moto: %w", err)
	}
	at := make(chan string, 1)
	go m.read(said, at)
	wait := time.NewTimer(motoStart)
	defer wait.Stop()
	select {
	case m.url = <-at:
		return m, nil
	case <-m.ended:
		return nil, errors.Join(errors.New("moto ended as it was started"), m.stop())
	case <-wait.C:
		return nil, errors.Join(errors.New("moto does not say where it listens"), m.stop())
	case <-ctx.Done():
		return nil, errors.Join(ctx.Err(), m.stop())
	}
}

// read tells where moto listens, and goes on reading: a full pipe would stop it.
func (m *moto) read(said io.Reader, at chan<- string) {
	defer close(m.ended)
	lines := bufio.NewScanner(said)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if found := listening.FindStringSubmatch(lines.Text()); found != nil {
			select {
			case at <- found[1]:
			default:
			}
		}
	}
	_, _ = io.Copy(io.Discard, said)
}

func (m *moto) stop() error {
	m.client.CloseIdleConnections()
	if err := m.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	<-m.ended
	// How it ended is known: it was killed.
	_ = m.cmd.Wait()
	return nil
}
