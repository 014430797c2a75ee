//! The volumes of a drawn pod, bound and still to be made.

use serde_json::{Value, json};

use super::*;

impl Draw {
    /// As many volumes as some machines can attach, and others cannot.
    pub(super) fn many_volumes(&mut self, name: &str, namespace: &str, spec: &mut Value) {
        let many = *self.of_volumes.one_of(&[6, 20, 25, 30, 35]).unwrap();
        let driver = *self.of_volumes.one_of(&["ebs.csi.aws.com", "ebs.csi.aws.com", "efs.csi.aws.com"]).unwrap();
        let mut mounted = spec["volumes"].as_array().cloned().unwrap_or_default();
        for number in 0..many {
            let (claim, object) = (format!("many-{name}-{number}"), format!("{name}-many-{number}"));
            self.volumes.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": object },
                "spec": { "capacity": { "storage": "10Gi" }, "accessModes": ["ReadWriteMany"], "storageClassName": object,
                    "csi": { "driver": driver, "volumeHandle": object }, "claimRef": { "namespace": namespace, "name": claim } },
            }));
            self.volumes.push(json!({
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": { "name": claim, "namespace": namespace, "annotations": { "pv.kubernetes.io/bind-completed": "yes" } },
                "spec": { "accessModes": ["ReadWriteMany"], "resources": { "requests": { "storage": "10Gi" } }, "storageClassName": object, "volumeName": object },
            }));
            mounted.push(json!({ "name": format!("many-{number}"), "persistentVolumeClaim": { "claimName": claim } }));
        }
        spec["volumes"] = json!(mounted);
    }

    pub(super) fn volume(&mut self, name: &str, namespace: &str, spec: &mut Value) {
        self.serial += 1;
        let (claim, object) = (format!("data-{}", self.serial), format!("{name}-{}", self.serial));
        let mode = self.one(&["ReadWriteOnce", "ReadWriteMany", "ReadWriteOncePod"]);
        let mut wanted = json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": { "name": claim, "namespace": namespace },
            "spec": { "accessModes": [mode], "resources": { "requests": { "storage": "10Gi" } }, "storageClassName": object },
        });
        match self.chance.below(10) {
            // Bound to a volume that is somewhere, or anywhere.
            0..6 => {
                let mut volume = json!({
                    "apiVersion": "v1", "kind": "PersistentVolume", "metadata": { "name": object },
                    "spec": { "capacity": { "storage": "10Gi" }, "accessModes": [mode], "storageClassName": object,
                        "csi": { "driver": "ebs.csi.aws.com", "volumeHandle": object },
                        "claimRef": { "namespace": namespace, "name": claim } },
                });
                if self.happens(700) {
                    let (key, values) = self.topology();
                    volume["spec"]["nodeAffinity"] = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [{ "key": key, "operator": "In", "values": values }] }] } });
                }
                wanted["spec"]["volumeName"] = json!(object);
                wanted["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
                self.volumes.push(volume);
            }
            // Made where the first pod that uses it lands.
            6..9 => {
                let mut class = json!({
                    "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": object }, "provisioner": "ebs.csi.aws.com",
                    "volumeBindingMode": "WaitForFirstConsumer",
                });
                if self.happens(600) {
                    let (key, values) = self.topology();
                    class["allowedTopologies"] = json!([{ "matchLabelExpressions": [{ "key": key, "values": values }] }]);
                }
                self.volumes.push(class);
            }
            // Never bound here: its class binds at once, and nothing has bound it.
            _ => self.volumes.push(json!({
                "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": { "name": object }, "provisioner": "ebs.csi.aws.com",
                "volumeBindingMode": "Immediate",
            })),
        }
        // A claim that nobody has made yet.
        if !self.happens(60) {
            self.volumes.push(wanted);
        }
        spec["volumes"] = json!([{ "name": "data", "persistentVolumeClaim": { "claimName": claim } }]);
    }
}
