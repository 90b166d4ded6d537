package main_test

import (
	"bytes"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"

	"github.com/photo-processor/photo-processor/internal/config"
)

// manifest has the fields that the tests read. `make check-kubernetes` checks all
// fields with Kubernetes' own types.
type manifest struct {
	Kind       string            `yaml:"kind"`
	Metadata   named             `yaml:"metadata"`
	Data       map[string]string `yaml:"data"`       // of a ConfigMap
	StringData map[string]string `yaml:"stringData"` // of a Secret
	Spec       struct {
		Replicas *int      `yaml:"replicas"`
		Selector yaml.Node `yaml:"selector"`
		Template struct {
			Metadata struct {
				Labels map[string]string `yaml:"labels"`
			} `yaml:"metadata"`
			Spec pod `yaml:"spec"`
		} `yaml:"template"`
		Ports          []port `yaml:"ports"` // of a Service
		ScaleTargetRef named  `yaml:"scaleTargetRef"`
		Triggers       []struct {
			Metadata map[string]string `yaml:"metadata"`
		} `yaml:"triggers"`
	} `yaml:"spec"`
}

type named struct {
	Name string `yaml:"name"`
}

type pod struct {
	TerminationGracePeriodSeconds int `yaml:"terminationGracePeriodSeconds"`
	SecurityContext               struct {
		RunAsUser int `yaml:"runAsUser"`
	} `yaml:"securityContext"`
	Containers []container `yaml:"containers"`
	Volumes    []struct {
		EmptyDir struct {
			SizeLimit string `yaml:"sizeLimit"`
		} `yaml:"emptyDir"`
	} `yaml:"volumes"`
}

type container struct {
	EnvFrom []struct {
		ConfigMapRef named `yaml:"configMapRef"`
		SecretRef    named `yaml:"secretRef"`
	} `yaml:"envFrom"`
	Env []struct {
		Name  string `yaml:"name"`
		Value string `yaml:"value"`
	} `yaml:"env"`
	Ports          []port `yaml:"ports"`
	LivenessProbe  probe  `yaml:"livenessProbe"`
	ReadinessProbe probe  `yaml:"readinessProbe"`
	Lifecycle      struct {
		PreStop struct {
			Sleep struct {
				Seconds int `yaml:"seconds"`
			} `yaml:"sleep"`
		} `yaml:"preStop"`
	} `yaml:"lifecycle"`
	Resources    struct{ Requests, Limits map[string]string } `yaml:"resources"`
	VolumeMounts []struct {
		MountPath string `yaml:"mountPath"`
	} `yaml:"volumeMounts"`
}

type port struct {
	Name          string `yaml:"name"`
	ContainerPort int    `yaml:"containerPort"`
	TargetPort    string `yaml:"targetPort"`
}

type probe struct {
	HTTPGet struct {
		Path string `yaml:"path"`
		Port string `yaml:"port"`
	} `yaml:"httpGet"`
	TimeoutSeconds int `yaml:"timeoutSeconds"`
}

// manifests returns the manifests in docs/kubernetes by kind and name.
func manifests(t *testing.T) map[string]manifest {
	t.Helper()
	all := map[string]manifest{}
	files, err := filepath.Glob(repository + "/docs/kubernetes/*.yaml")
	require.NoError(t, err)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		documents := yaml.NewDecoder(bytes.NewReader(text))
		for {
			var m manifest
			err := documents.Decode(&m)
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			require.NotEmpty(t, m.Metadata.Name, file)
			require.NotContains(t, all, m.Kind+" "+m.Metadata.Name)
			all[m.Kind+" "+m.Metadata.Name] = m
		}
	}
	return all
}

// selected returns the labels that a Deployment, a Service or a
// PodDisruptionBudget selects.
func (m manifest) selected(t *testing.T) map[string]string {
	t.Helper()
	var selector struct {
		MatchLabels map[string]string `yaml:"matchLabels"`
	}
	require.NoError(t, m.Spec.Selector.Decode(&selector))
	if selector.MatchLabels != nil {
		return selector.MatchLabels
	}
	var labels map[string]string
	require.NoError(t, m.Spec.Selector.Decode(&labels))
	return labels
}

// podEnvironment returns the variables of the deployment's container.
func podEnvironment(t *testing.T, all map[string]manifest, c container) map[string]string {
	t.Helper()
	variables := map[string]string{}
	add := func(name, value string) {
		require.NotContains(t, variables, name, "it is set twice")
		variables[name] = value
	}
	for _, from := range c.EnvFrom {
		for _, source := range []string{"ConfigMap " + from.ConfigMapRef.Name, "Secret " + from.SecretRef.Name} {
			if strings.HasSuffix(source, " ") {
				continue
			}
			require.Contains(t, all, source)
			for name, value := range all[source].Data {
				add(name, value)
			}
			for name, value := range all[source].StringData {
				add(name, value)
			}
		}
	}
	for _, variable := range c.Env {
		add(variable.Name, variable.Value)
	}
	return variables
}

// parsePodEnvironment parses the variables. It checks that the placeholders in
// secrets are rejected, and replaces them.
func parsePodEnvironment(t *testing.T, variables map[string]string) config.Config {
	t.Helper()
	replaced := maps.Clone(variables)
	for name, value := range variables {
		if name == "API_TOKEN" || name == "DATABASE_URL" {
			_, err := config.Parse(variables)
			require.ErrorContains(t, err, name+": ")
			require.ErrorContains(t, err, "placeholder")
			replaced[name] = strings.ReplaceAll(value, "change-me", "changed")
		}
	}
	cfg, err := config.Parse(replaced)
	require.NoError(t, err)
	return cfg
}

// quantity reads a number of MiB or GiB.
func quantity(t *testing.T, text string) int64 {
	t.Helper()
	number, unit := text[:len(text)-2], map[string]int64{"Mi": 1 << 20, "Gi": 1 << 30}[text[len(text)-2:]]
	value, err := strconv.ParseInt(number, 10, 64)
	require.NoError(t, err)
	require.NotZero(t, unit, text)
	return value * unit
}

// TestKubernetes compares docs/kubernetes with the configuration, its documentation,
// the Dockerfile, and the manifests with each other.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	all := manifests(t)
	page, err := os.ReadFile(repository + "/docs/configuration.md")
	require.NoError(t, err)
	dockerfile, err := os.ReadFile(repository + "/Dockerfile")
	require.NoError(t, err)
	ours := map[string]bool{}
	params, err := env.GetFieldParams(&config.Config{})
	require.NoError(t, err)
	for _, p := range params {
		ours[p.Key] = true
	}
	for _, name := range []string{"photo-processor-api", "photo-processor-worker"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			require.Contains(t, all, "Deployment "+name)
			deployment := all["Deployment "+name]
			labels, pod := deployment.Spec.Template.Metadata.Labels, deployment.Spec.Template.Spec
			require.Len(t, pod.Containers, 1)
			c := pod.Containers[0]
			variables := podEnvironment(t, all, c)
			for variable := range variables {
				switch {
				case strings.HasPrefix(variable, "AWS_"):
				case strings.HasPrefix(variable, "TEMPORAL_"):
					require.Contains(t, string(page), "| `"+variable+"` |")
				default:
					require.True(t, ours[variable], "%s is no variable of photo-processor", variable)
				}
			}
			cfg := parsePodEnvironment(t, variables)

			require.NotEmpty(t, labels)
			require.Equal(t, labels, deployment.selected(t))
			require.Equal(t, labels, all["PodDisruptionBudget "+name].selected(t))
			require.Contains(t, string(dockerfile), "--uid "+strconv.Itoa(pod.SecurityContext.RunAsUser)+" ")
			grace := time.Duration(pod.TerminationGracePeriodSeconds-c.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			require.Greater(t, grace, cfg.ShutdownTimeout+5*time.Second, "and some time to report what was given up")

			ports := map[string]string{}
			for _, p := range c.Ports {
				ports[p.Name] = strconv.Itoa(p.ContainerPort)
			}
			require.Equal(t, "0.0.0.0:"+ports["metrics"], cfg.MetricsAddr)
			for path, p := range map[string]probe{"/healthz": c.LivenessProbe, "/readyz": c.ReadinessProbe} {
				require.Equal(t, path, strings.TrimSuffix(p.HTTPGet.Path, "?for=reads"))
				require.Contains(t, ports, p.HTTPGet.Port)
				require.Greater(t, p.TimeoutSeconds, 3, "/readyz takes up to 3 seconds")
			}
			if name == "photo-processor-api" {
				require.Equal(t, "0.0.0.0:"+ports["http"], cfg.HTTPAddr)
				require.NotEmpty(t, cfg.APITokens)
				service := all["Service "+name]
				require.Equal(t, labels, service.selected(t))
				require.Equal(t, "http", service.Spec.Ports[0].TargetPort)
				return
			}
			require.NotContains(t, variables, "API_TOKEN", "a worker has no use for it")
			require.Equal(t, cfg.SourceCacheDir, c.VolumeMounts[0].MountPath)
			require.GreaterOrEqual(t, quantity(t, pod.Volumes[0].EmptyDir.SizeLimit), cfg.SourceCacheDisk)
			require.GreaterOrEqual(t, quantity(t, c.Resources.Requests["ephemeral-storage"]), cfg.SourceCacheDisk)
			require.GreaterOrEqual(t, quantity(t, c.Resources.Limits["memory"]), int64(cfg.RenderConcurrency)*cfg.RenderMaxMemory+512<<20)
			require.Equal(t, strconv.Itoa(cfg.RenderConcurrency), c.Resources.Requests["cpu"])

			require.Nil(t, deployment.Spec.Replicas, "else each apply would undo what KEDA has done")
			scaled := all["ScaledObject "+name]
			require.Equal(t, name, scaled.Spec.ScaleTargetRef.Name)
			trigger := scaled.Spec.Triggers[0].Metadata
			require.Equal(t, cfg.TaskQueue, trigger["taskQueue"])
			require.Equal(t, variables["TEMPORAL_ADDRESS"], trigger["endpoint"])
			require.Equal(t, variables["TEMPORAL_NAMESPACE"], trigger["namespace"])
		})
	}
}
