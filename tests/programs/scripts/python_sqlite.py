"""sqlite3: four processes write one database, in each journal mode."""
import multiprocessing as mp
import os
import sqlite3
import tempfile


def insert(worker):
    database = sqlite3.connect("db", timeout=60)
    for number in range(10):
        with database:
            database.execute("insert into t values(?, ?)", (worker, number))


def main():
    for mode in "delete", "wal", "persist", "truncate":
        for name in os.listdir("."):
            os.unlink(name)
        database = sqlite3.connect("db")
        print(database.execute(f"pragma journal_mode={mode}").fetchone())
        database.execute("pragma mmap_size=1000000")
        database.execute("create table t(a, b)")
        database.commit()
        writers = [mp.Process(target=insert, args=(n,)) for n in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        print(database.execute("select count(*), sum(a), sum(b) from t").fetchone())
        print(database.execute("pragma integrity_check").fetchone())
        database.execute("vacuum")
        database.close()
        print(sorted(os.listdir(".")))


with tempfile.TemporaryDirectory() as directory:
    os.chdir(directory)
    main()
    os.chdir("/")
