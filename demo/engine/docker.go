package engine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// largestAnswer bounds what is read from an engine: its answers here are a few kilobytes.
const largestAnswer = 4 << 20

// Docker speaks the part of the Docker Engine API that the demo and the drill need, over its socket.
type Docker struct {
	Socket string
	http   *http.Client
}

func Connect(socket string) *Docker {
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	}
	return &Docker{Socket: socket, http: &http.Client{Transport: &http.Transport{DialContext: dial, MaxIdleConns: 4}}}
}

// Call sends one request and decodes the answer into out, which may be nil.
func (d *Docker) Call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	kind := "application/json"
	switch v := in.(type) {
	case nil:
	case io.Reader:
		body, kind = v, "application/x-tar"
	default:
		data, err := json.Marshal(v)
		if err != nil {
			return err
		}
		body = bytes.NewReader(data)
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://engine"+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", kind)
	response, err := d.http.Do(request)
	if err != nil {
		return fmt.Errorf("ask the container engine (%s %s): %w", method, path, err)
	}
	defer response.Body.Close()
	data, err := io.ReadAll(io.LimitReader(response.Body, largestAnswer))
	if err != nil {
		return fmt.Errorf("read the container engine's answer (%s %s): %w", method, path, err)
	}
	if response.StatusCode >= 300 && response.StatusCode != http.StatusNotModified {
		return &engineError{method + " " + path, response.StatusCode, refusal(data)}
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(data, out)
}

// engineError is what an engine refused.
type engineError struct {
	call   string
	status int
	reason string
}

func (e *engineError) Error() string {
	return fmt.Sprintf("the container engine refused %s: %s (%d)", e.call, e.reason, e.status)
}

func refusal(data []byte) string {
	var answer struct{ Message string }
	if json.Unmarshal(data, &answer) == nil && answer.Message != "" {
		return answer.Message
	}
	return strings.TrimSpace(string(data))
}

func isMissing(err error) bool {
	var e *engineError
	return errors.As(err, &e) && e.status == http.StatusNotFound
}

func (d *Docker) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	return d.Call(ctx, "GET", "/version", nil, nil)
}

// Load imports a docker-archive and returns the id of the image that ref names then.
func (d *Docker) Load(ctx context.Context, archive io.Reader, ref string) (string, error) {
	if err := d.Call(ctx, "POST", "/images/load?quiet=1", archive, nil); err != nil {
		return "", fmt.Errorf("load an image: %w", err)
	}
	var image struct{ ID string }
	if err := d.Call(ctx, "GET", "/images/"+ref+"/json", nil, &image); err != nil {
		return "", fmt.Errorf("find the image just loaded: %w", err)
	}
	return image.ID, nil
}

func (d *Docker) RemoveImage(ctx context.Context, ref string) error {
	err := d.Call(ctx, "DELETE", "/images/"+ref+"?force=1", nil, nil)
	if isMissing(err) {
		return nil
	}
	return err
}

// Run creates and starts a container.
func (d *Docker) Run(ctx context.Context, name string, config map[string]any) (Container, error) {
	var created struct{ ID string }
	if err := d.Call(ctx, "POST", "/containers/create?name="+url.QueryEscape(name), config, &created); err != nil {
		return Container{}, fmt.Errorf("create container %s: %w", name, err)
	}
	if err := d.Call(ctx, "POST", "/containers/"+created.ID+"/start", nil, nil); err != nil {
		return Container{ID: created.ID}, fmt.Errorf("start container %s: %w", name, err)
	}
	return d.Inspect(ctx, created.ID)
}

// Container is what one needs to know about a running one.
type Container struct {
	ID      string
	PID     int
	Address string
}

func (d *Docker) Inspect(ctx context.Context, id string) (Container, error) {
	var answer struct {
		State           struct{ Pid int }
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := d.Call(ctx, "GET", "/containers/"+id+"/json", nil, &answer); err != nil {
		return Container{ID: id}, err
	}
	c := Container{ID: id, PID: answer.State.Pid}
	for _, n := range answer.NetworkSettings.Networks {
		c.Address = n.IPAddress
	}
	return c, nil
}

// Logs returns the last lines a container wrote, for an error message.
func (d *Docker) Logs(ctx context.Context, id string) string {
	request, err := http.NewRequestWithContext(ctx, "GET", "http://engine/containers/"+id+"/logs?stdout=1&stderr=1&tail=5", nil)
	if err != nil {
		return ""
	}
	response, err := d.http.Do(request)
	if err != nil {
		return ""
	}
	defer response.Body.Close()
	data, _ := io.ReadAll(io.LimitReader(response.Body, 2000))
	return strings.TrimSpace(strings.Map(Printable, string(data)))
}

// Printable keeps of a text what may be shown on a terminal.
func Printable(r rune) rune {
	if r == '\n' || r >= ' ' && r != 0x7f && r < 0x80 || r > 0x9f {
		return r
	}
	return -1
}

func (d *Docker) Remove(ctx context.Context, id string) error {
	err := d.Call(ctx, "DELETE", "/containers/"+id+"?force=1&v=1", nil, nil)
	if isMissing(err) {
		return nil
	}
	return err
}

// Subnet is the address range of a bridge of our own.
type Subnet struct{ CIDR, Gateway string }

// Network makes a bridge of our own, so that no other container is touched.
func (d *Docker) Network(ctx context.Context, name, bridge string, net Subnet) (string, error) {
	var created struct{ ID string }
	err := d.Call(ctx, "POST", "/networks/create", map[string]any{
		"Name": name, "Driver": "bridge", "CheckDuplicate": true,
		"Options": map[string]string{"com.docker.network.bridge.name": bridge, "com.docker.network.bridge.enable_ip_masquerade": "false"},
		"IPAM":    map[string]any{"Config": []map[string]string{{"Subnet": net.CIDR, "Gateway": net.Gateway}}},
	}, &created)
	return created.ID, err
}

func (d *Docker) RemoveNetwork(ctx context.Context, id string) error {
	err := d.Call(ctx, "DELETE", "/networks/"+id, nil, nil)
	if isMissing(err) {
		return nil
	}
	return err
}

// Labelled lists all containers with a label, "name=value".
func (d *Docker) Labelled(ctx context.Context, label string) ([]string, error) {
	filter, err := json.Marshal(map[string][]string{"label": {label}})
	if err != nil {
		return nil, err
	}
	var found []struct{ ID string }
	if err := d.Call(ctx, "GET", "/containers/json?all=1&filters="+url.QueryEscape(string(filter)), nil, &found); err != nil {
		return nil, err
	}
	ids := make([]string, 0, len(found))
	for _, f := range found {
		ids = append(ids, f.ID)
	}
	return ids, nil
}

// largestOutput bounds what is kept of what a command says.
const largestOutput = 64 << 10

// Exec runs a command in a running container and returns what it said and its exit code.
func (d *Docker) Exec(ctx context.Context, id string, command ...string) (output string, exit int, err error) {
	var made struct{ ID string }
	ask := map[string]any{"AttachStdout": true, "AttachStderr": true, "Tty": true, "Cmd": command}
	if err := d.Call(ctx, "POST", "/containers/"+id+"/exec", ask, &made); err != nil {
		return "", -1, err
	}
	request, err := http.NewRequestWithContext(ctx, "POST", "http://engine/exec/"+made.ID+"/start", strings.NewReader(`{"Tty":true}`))
	if err != nil {
		return "", -1, err
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := d.http.Do(request)
	if err != nil {
		return "", -1, fmt.Errorf("start a command in the container: %w", err)
	}
	defer response.Body.Close()
	said, err := io.ReadAll(io.LimitReader(response.Body, largestOutput))
	if err != nil {
		return string(said), -1, fmt.Errorf("read what the command says: %w", err)
	}
	var state struct{ ExitCode int }
	err = d.Call(ctx, "GET", "/exec/"+made.ID+"/json", nil, &state)
	return string(said), state.ExitCode, err
}
