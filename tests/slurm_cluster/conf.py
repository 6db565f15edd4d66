"""The configuration files of the tests' SLURM."""

from __future__ import annotations

import os
import socket
import stat
import time

from place import CONF, NODES, ROOT, SUBNET, Abilities, address

_SLURM = """\
ClusterName=distcond
SlurmctldHost={host}({controller})
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket,cred_expire=5
StateSaveLocation={root}/state
SlurmdSpoolDir={root}/spool.%n
SlurmctldPidFile={root}/slurmctld.own.pid
SlurmdPidFile={root}/slurmd.%n.own.pid
SlurmctldLogFile={root}/slurmctld.log
SlurmdLogFile={root}/slurmd.%n.log
SlurmctldPort=16817
SlurmdPort=16818
FirstJobId={first}
SwitchType=switch/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
ReturnToService=2
SlurmdTimeout=12
SlurmctldTimeout=10
MessageTimeout=10
KillWait=5
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_interval=5
JobCompType=jobcomp/none
JobRequeue=1
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
SlurmctldParameters=preempt_send_user_signal
"""
# cred_expire: a requeued job waits that long before it may start again; the default is 120 s.
# preempt_send_user_signal: otherwise a preempted job gets SIGTERM alone.
# FirstJobId: numbers are not used twice, so files named after jobs are not mistaken for older ones.
# SlurmdTimeout, MessageTimeout: a dead node is noticed in half a minute instead of five minutes.

_DBD = """\
AuthType=auth/munge
AuthInfo=socket={root}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort=16819
SlurmUser=root
PidFile={root}/slurmdbd.own.pid
LogFile={root}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct_db
"""


def write(found: Abilities) -> None:
    """All files, for a machine with these abilities."""
    CONF.write_text(_slurm(found))
    for number in range(2):  # device files that no driver owns pass for GPUs
        os.mknod(ROOT / f"gpu{number}", 0o666 | stat.S_IFCHR, os.makedev(240, number))
    (ROOT / "gres.conf").write_text(f"NodeName=n[1-{len(NODES)}] Name=gpu File={ROOT}/gpu[0-1]\n")
    confined = "CgroupPlugin=cgroup/v1\nCgroupMountpoint=/sys/fs/cgroup\nConstrainRAMSpace=yes\n"
    (ROOT / "cgroup.conf").write_text(confined)
    (ROOT / "hosts").write_text("127.0.0.1 localhost\n" + "".join(f"{address(n, found)} {n}\n" for n in NODES))
    # Nodes have no name server: a look-up fails at once instead of after ten seconds.
    (ROOT / "nsswitch.conf").write_text("passwd: files\ngroup: files\nhosts: files\n")
    dbd = ROOT / "slurmdbd.conf"
    dbd.touch(mode=0o600)  # slurmdbd insists
    dbd.write_text(_DBD.format(root=ROOT))


def _slurm(found: Abilities) -> str:
    host = socket.gethostname().split(".")[0]
    controller = f"{SUBNET}.1" if found.namespaces else "127.0.0.1"
    lines = [_SLURM.format(root=ROOT, host=host, controller=controller, first=int(time.time()) % 60_000_000)]
    hold = ("proctrack/cgroup", "task/cgroup") if found.cgroups else ("proctrack/linuxproc", "task/none")
    lines += [f"ProctrackType={hold[0]}", f"TaskPlugin={hold[1]}"]
    if found.accounting:
        lines += ["AccountingStorageType=accounting_storage/slurmdbd", "AccountingStorageHost=127.0.0.1"]
        # Despite its name: the socket of munge.
        lines += ["AccountingStoragePort=16819", f"AccountingStoragePass={ROOT}/munge.socket"]
        lines += ["JobAcctGatherType=jobacct_gather/linux"]
    for number, node in enumerate(NODES):
        place = f"NodeHostname={node}" if found.namespaces else f"NodeHostname={host} Port={16820 + number}"
        lines.append(
            f"NodeName={node} NodeAddr={address(node, found)} {place} CPUs=2 RealMemory=6000 Gres=gpu:2 State=UNKNOWN"
        )
    nodes = f"Nodes=n[1-{len(NODES)}] MaxTime=INFINITE State=UP"
    lines.append(f"PartitionName=main {nodes} Default=YES PriorityTier=1 GraceTime=60")
    lines.append(f"PartitionName=high {nodes} PriorityTier=10 PreemptMode=OFF")
    return "\n".join(lines) + "\n"
