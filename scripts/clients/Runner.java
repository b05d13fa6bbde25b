package com.rabbitmq.client.test;

import com.rabbitmq.client.Connection;
import com.rabbitmq.client.ConnectionFactory;
import org.junit.runner.Description;
import org.junit.runner.JUnitCore;
import org.junit.runner.notification.Failure;
import org.junit.runner.notification.RunListener;

/** Runs test classes of the Java client and prints a line for each test: pass, fail or skip, and its name. */
public class Runner extends RunListener {
    private String outcome;

    /** What the tests use in place of a factory of their own, whose port is fixed. */
    public static ConnectionFactory factory() {
        ConnectionFactory factory = new ConnectionFactory();
        factory.setPort(Integer.getInteger("amqp.port"));
        return factory;
    }

    @Override public void testStarted(Description test) { outcome = "pass"; }

    @Override public void testFailure(Failure failure) {
        outcome = "fail";
        System.err.println(failure.getDescription() + "\n" + failure.getTrace());
    }

    @Override public void testAssumptionFailure(Failure failure) { outcome = "skip"; }

    @Override public void testFinished(Description test) {
        System.out.println(outcome + " " + test.getTestClass().getSimpleName() + "." + test.getMethodName());
    }

    public static void main(String[] names) throws Exception {
        // What an earlier run has left behind.
        try (Connection connection = factory().newConnection()) {
            for (String queue : new String[] {"foo", "bar", "queue.ttl"}) {
                connection.createChannel().queueDelete(queue);
            }
        }
        for (String name : names) {
            JUnitCore core = new JUnitCore();
            core.addListener(new Runner());
            core.run(Class.forName("com.rabbitmq.client.test." + name));
        }
        // Some tests leave threads behind.
        System.exit(0);
    }
}
