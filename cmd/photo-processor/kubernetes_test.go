package main_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caarlos0/env/v11"
	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	k8syaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/photo-processor/photo-processor/internal/config"
)

// manifests are those of docs/kubernetes, by name.
type manifests struct {
	configMaps  map[string]corev1.ConfigMap
	secrets     map[string]corev1.Secret
	services    map[string]corev1.Service
	deployments map[string]appsv1.Deployment
	budgets     map[string]policyv1.PodDisruptionBudget
	scaled      scaledObject
}

// scaledObject has what of KEDA's type the manifest uses. KEDA's own would bring
// all of Kubernetes' client.
type scaledObject struct {
	APIVersion, Kind string
	Metadata         struct{ Name string }
	Spec             struct {
		ScaleTargetRef                   struct{ Name string }
		MinReplicaCount, MaxReplicaCount int
		Advanced                         map[string]any
		Triggers                         []struct {
			Type     string
			Metadata map[string]string
		}
	}
}

// loadManifests reads every document, with no field that Kubernetes does not
// know and none twice.
func loadManifests(t *testing.T) manifests {
	t.Helper()
	all := manifests{
		map[string]corev1.ConfigMap{}, map[string]corev1.Secret{}, map[string]corev1.Service{},
		map[string]appsv1.Deployment{}, map[string]policyv1.PodDisruptionBudget{}, scaledObject{},
	}
	files, err := filepath.Glob(repository + "/docs/kubernetes/*.yaml")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		documents := k8syaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, file)
			var kind struct{ APIVersion, Kind string }
			require.NoError(t, yaml.Unmarshal(document, &kind))
			switch kind.APIVersion + " " + kind.Kind {
			case "v1 ConfigMap":
				o := decode[corev1.ConfigMap](t, document)
				all.configMaps[o.Name] = o
			case "v1 Secret":
				o := decode[corev1.Secret](t, document)
				all.secrets[o.Name] = o
			case "v1 Service":
				o := decode[corev1.Service](t, document)
				all.services[o.Name] = o
			case "apps/v1 Deployment":
				o := decode[appsv1.Deployment](t, document)
				all.deployments[o.Name] = o
			case "policy/v1 PodDisruptionBudget":
				o := decode[policyv1.PodDisruptionBudget](t, document)
				all.budgets[o.Name] = o
			case "keda.sh/v1alpha1 ScaledObject":
				all.scaled = decode[scaledObject](t, document)
			default:
				t.Errorf("%s: an unknown %s", file, kind)
			}
		}
	}
	return all
}

func decode[T any](t *testing.T, document []byte) (object T) {
	t.Helper()
	require.NoError(t, yaml.UnmarshalStrict(document, &object))
	return object
}

// environment is that of the deployment's one container.
func (m manifests) environment(t *testing.T, deployment string) map[string]string {
	t.Helper()
	all := map[string]string{}
	container := m.deployments[deployment].Spec.Template.Spec.Containers[0]
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef != nil {
			require.Contains(t, m.configMaps, from.ConfigMapRef.Name)
			for name, value := range m.configMaps[from.ConfigMapRef.Name].Data {
				all[name] = value
			}
			continue
		}
		require.Contains(t, m.secrets, from.SecretRef.Name)
		for name, value := range m.secrets[from.SecretRef.Name].StringData {
			all[name] = value
		}
	}
	for _, variable := range container.Env {
		require.NotContains(t, all, variable.Name, "it is set twice")
		all[variable.Name] = variable.Value
	}
	return all
}

// TestKubernetes holds docs/kubernetes against the configuration, the Dockerfile,
// and what the manifests say of each other.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	m := loadManifests(t)
	readme, err := os.ReadFile(repository + "/README.md")
	require.NoError(t, err)
	dockerfile, err := os.ReadFile(repository + "/Dockerfile")
	require.NoError(t, err)
	ours := map[string]bool{}
	params, err := env.GetFieldParams(&config.Config{})
	require.NoError(t, err)
	for _, p := range params {
		ours[p.Key] = true
	}
	require.Len(t, m.deployments, 2)
	for name, deployment := range m.deployments {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			pod := deployment.Spec.Template
			require.Len(t, pod.Spec.Containers, 1)
			container := pod.Spec.Containers[0]
			variables := m.environment(t, name)
			for variable := range variables {
				switch {
				case strings.HasPrefix(variable, "AWS_"):
				case strings.HasPrefix(variable, "TEMPORAL_"):
					require.Contains(t, string(readme), "| `"+variable+"` |")
				default:
					require.True(t, ours[variable], "%s is no variable of ours", variable)
				}
			}
			cfg, err := config.Parse(variables)
			require.NoError(t, err)

			require.Equal(t, pod.Labels, deployment.Spec.Selector.MatchLabels)
			require.Contains(t, m.budgets, name)
			require.Equal(t, pod.Labels, m.budgets[name].Spec.Selector.MatchLabels)
			require.Contains(t, string(dockerfile), "--uid "+strconv.FormatInt(*pod.Spec.SecurityContext.RunAsUser, 10)+" ")
			grace := time.Duration(*pod.Spec.TerminationGracePeriodSeconds) * time.Second
			if container.Lifecycle != nil {
				grace -= time.Duration(container.Lifecycle.PreStop.Sleep.Seconds) * time.Second
			}
			require.Greater(t, grace, cfg.ShutdownTimeout+5*time.Second, "and some time to report what was given up")

			ports := map[string]string{}
			for _, port := range container.Ports {
				ports[port.Name] = strconv.Itoa(int(port.ContainerPort))
			}
			require.Equal(t, "0.0.0.0:"+ports["metrics"], cfg.MetricsAddr)
			for _, probe := range []*corev1.Probe{container.LivenessProbe, container.ReadinessProbe} {
				require.Contains(t, ports, probe.HTTPGet.Port.StrVal)
				require.Greater(t, probe.TimeoutSeconds, int32(3), "/readyz takes up to 3 seconds")
			}
			for _, mount := range container.VolumeMounts {
				require.Equal(t, cfg.SpoolDir, mount.MountPath)
			}
			if name != "photo-processor-worker" {
				require.Equal(t, "0.0.0.0:"+ports["http"], cfg.HTTPAddr)
				require.Equal(t, intstr.FromString("http"), m.services[name].Spec.Ports[0].TargetPort)
				require.Equal(t, pod.Labels, m.services[name].Spec.Selector)
				return
			}
			require.NotContains(t, variables, "API_TOKEN", "a worker has no use for it")
			require.Len(t, pod.Spec.Volumes, 1)
			require.GreaterOrEqual(t, pod.Spec.Volumes[0].EmptyDir.SizeLimit.Value(), int64(cfg.WorkerActivities)*cfg.SourceMaxBytes)
			require.GreaterOrEqual(t, container.Resources.Requests.StorageEphemeral().Value(), int64(cfg.WorkerActivities)*cfg.SourceMaxBytes)
			require.GreaterOrEqual(t, container.Resources.Limits.Memory().Value(), int64(cfg.RenderConcurrency)*cfg.RenderMaxMemory+512<<20)
			require.Equal(t, int64(cfg.RenderConcurrency), container.Resources.Requests.Cpu().Value())

			require.Nil(t, deployment.Spec.Replicas, "else each apply would undo what KEDA has done")
			require.Equal(t, name, m.scaled.Spec.ScaleTargetRef.Name)
			require.Len(t, m.scaled.Spec.Triggers, 1)
			trigger := m.scaled.Spec.Triggers[0].Metadata
			require.Equal(t, cfg.TaskQueue, trigger["taskQueue"])
			require.Equal(t, variables["TEMPORAL_ADDRESS"], trigger["endpoint"])
			require.Equal(t, variables["TEMPORAL_NAMESPACE"], trigger["namespace"])
		})
	}
}
