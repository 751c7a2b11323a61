package agent

import (
	"fmt"
	"net"

	"github.com/toolshed-cloud/shed/agent/api"
)

// ControlPlane is the host that the machine enrols at, once it is configured. The
// error is api.ErrConfig.
func (m *Machine) ControlPlane() (string, error) {
	m.mu.RLock()
	defer m.mu.RUnlock()
	host, _, err := net.SplitHostPort(m.config.ControlPlane)
	if err != nil {
		return "", fmt.Errorf("%w: control_plane: %w", api.ErrConfig, err)
	}
	return host, nil
}
