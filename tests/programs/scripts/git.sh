# A history of 30 commits: merged, collected, checked, cloned, pushed, rebased.
set -e
directory=$(mktemp -d)
cd "$directory"
trap 'rm -rf "$directory"' EXIT
export HOME=$PWD GIT_CONFIG_NOSYSTEM=1
export GIT_AUTHOR_DATE=2024-01-01T00:00:00Z GIT_COMMITTER_DATE=2024-01-01T00:00:00Z
git config --global user.name a
git config --global user.email a@b
git config --global init.defaultBranch main
git init -q repo
cd repo
for i in $(seq 30); do
    seq "$i" $((i * 50)) > "f$i"
    git add .
    git commit -qm "c$i"
done
git checkout -qb side HEAD~5
echo side > s
git add s
git commit -qm side
git checkout -q main
git merge -q -m merge side
git log --oneline
git gc -q
git fsck
git count-objects -v | grep -E 'count|in-pack'
git clone -q . ../copy
git clone -q --no-local --bare "file://$PWD" ../bare
git -C ../bare fsck
cd ../copy
echo x >> f1
git stash -q
git stash pop
git push -q origin HEAD:refs/heads/other
git -C ../repo branch -a
git checkout -q f1
git rebase -q HEAD~2
git worktree add -q ../tree
git grep -c 77
git diff HEAD~3 | md5sum
cd ../repo
